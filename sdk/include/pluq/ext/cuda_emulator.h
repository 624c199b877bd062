/* SPDX-License-Identifier: Apache-2.0 */
/* Host extension "pluq.cuda_emulator/1" (draft): runs a CUDA kernel on the CPU with a fiber per
 * CUDA thread. The twins in pluq/cuda/ are compiled into the plugin and call back through this
 * table; the scheduler, the shadow of shared memory and the registry of device memory are the
 * host's. Plain C11. */
#ifndef PLUQ_EXT_CUDA_EMULATOR_H
#define PLUQ_EXT_CUDA_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
/* Id for pluq_host.get_extension. */
#define PLUQ_CUDA_EMULATOR "pluq.cuda_emulator/1"

/* Detectors, a bit each. Divergent collectives, deadlock and the bounds of declared counts are
 * always checked. */
#define PLUQ_EMU_CHECK_RACES 1u  /* two accesses to shared memory without a barrier between them */
#define PLUQ_EMU_CHECK_INIT 2u   /* a read of shared memory that nobody wrote */
#define PLUQ_EMU_CHECK_ASYNC 4u  /* an access to shared memory that a copy in flight will write */
#define PLUQ_EMU_CHECK_GLOBAL 8u /* global accesses against the registered allocations */
#define PLUQ_EMU_CHECK_GLOBAL_INIT 16u   /* a read of device memory that nobody wrote */
#define PLUQ_EMU_CHECK_WGMMA 32u         /* registers and tiles of a wgmma in flight; its fence */
#define PLUQ_EMU_CHECK_PROXY 64u         /* no fence between ordinary writes and the async proxy */
#define PLUQ_EMU_CHECK_GLOBAL_RACES 128u /* unordered accesses of two blocks to device memory */
#define PLUQ_EMU_CHECK_ALL 255u
/* Those that look at accesses to shared memory. */
#define PLUQ_EMU_CHECK_SHARED                                                                 \
  (PLUQ_EMU_CHECK_RACES | PLUQ_EMU_CHECK_INIT | PLUQ_EMU_CHECK_ASYNC | PLUQ_EMU_CHECK_WGMMA | \
   PLUQ_EMU_CHECK_PROXY)

/* Kinds of accesses. */
#define PLUQ_EMU_READ 1u
#define PLUQ_EMU_WRITE 2u
#define PLUQ_EMU_ATOMIC \
  4u /* with WRITE: a read and a write that do not race with other atomic ones */
#define PLUQ_EMU_ASYNC_PROXY 8u /* with READ of shared memory: by wgmma */
#define PLUQ_EMU_ACQUIRE 16u    /* with READ or ATOMIC of device memory */
#define PLUQ_EMU_RELEASE 32u    /* with WRITE or ATOMIC of device memory */

/* pluq_emu_launch.reports */
#define PLUQ_EMU_REPORTS_GLOBAL 1u /* global_access is called for accesses to device memory */

/* wgmma_order */
#define PLUQ_EMU_WGMMA_FENCE 0u
#define PLUQ_EMU_WGMMA_COMMIT 1u
#define PLUQ_EMU_WGMMA_WAIT 2u

/* What the accumulators of a wgmma in flight hold: a signalling NaN, of which arithmetic sets the
 * bit 0x400000 and may flip the sign. */
#define PLUQ_EMU_UNFINISHED 0x7fad9a31u
#define PLUQ_EMU_UNFINISHED_BITS 0x7fbfffffu

/* proxy_fence */
#define PLUQ_EMU_FENCE_ASYNC_PROXY 0u
#define PLUQ_EMU_FENCE_MBAR_INIT 1u

#define PLUQ_EMU_OK 0 /* the kernel ran */
#define PLUQ_EMU_INVALID \
  1 /* the launch itself is wrong: sizes, shared memory, a pointer that is no device memory */
#define PLUQ_EMU_FAULT 2 /* a detector stopped the kernel */

typedef struct pluq_cuda_emulator pluq_cuda_emulator;

/* The block being run, one per OS thread that runs blocks. The host writes it; `thread` and
 * `thread_idx` are those of the CUDA thread that runs now. */
typedef struct pluq_emu_block {
  uint32_t struct_size;
  uint32_t checks; /* PLUQ_EMU_CHECK_* */
  const pluq_cuda_emulator *api; /* the table */
  void *stream;                  /* of the launch */
  uint32_t sm; /* 80, 89, 90 */
  uint32_t n_threads;     /* of the block */
  uint32_t grid_dim[3];   /* x, y, z, as the three below */
  uint32_t block_dim[3];  /* threads */
  uint32_t block_idx[3];  /* of this block */
  uint32_t thread_idx[3]; /* of this thread */
  uint32_t thread; /* linear, x fastest */
  uint32_t dynamic_bytes; /* dynamic shared memory */
  unsigned char *shared; /* 1024-byte aligned; dynamic shared memory is at its beginning */
  uint32_t shared_bytes; /* all of it */
  uint32_t reserved;
} pluq_emu_block;

typedef struct pluq_emu_launch { /* One kernel launch. */
  uint32_t struct_size;
  uint32_t shared_bytes; /* dynamic shared memory */
  const char *name;      /* of the kernel, for messages */
  uint32_t grid_dim[3];  /* blocks in x, y, z */
  uint32_t block_dim[3]; /* threads in x, y, z */
  void (*entry)(pluq_emu_block *block, void *args); /* called once by every CUDA thread */
  void *args;                                       /* second argument of entry */
  uint32_t reports; /* PLUQ_EMU_REPORTS_* of the twins this kernel was compiled with; a launch whose
                       struct ends before it reports nothing */
  uint32_t reserved;
} pluq_emu_launch;

/* Called once when all lanes of a collective are there. operands[i] is that of thread first_thread
 * + i, or NULL when it does not take part. */
typedef void (*pluq_emu_run)(pluq_emu_block *block, uint32_t first_thread, void *const *operands,
                             void *user);

/* All functions that take a block are called from within a kernel. `file` has static lifetime.
 * Those that find an error do not return. */
struct pluq_cuda_emulator {
  uint32_t struct_size;
  uint32_t reserved;
  /* [any] Runs all blocks in ascending order, x fastest, and returns. stream: pluq_exec.stream of
   * an emulated device. Returns PLUQ_EMU_*; a message of one sentence is written, cut to fit, when
   * it is not OK. */
  int32_t (*launch)(void *stream, const pluq_emu_launch *launch, char *message,
                    size_t message_bytes);
  /* [any] The device allocation that holds address p: 1, or 0 when there is none. */
  int32_t (*find_range)(void *stream, const void *p, const void **begin, uint64_t *bytes);
  /* Stops the kernel with this text; the host adds kernel, block, thread and place. */
  void (*fail)(pluq_emu_block *block, const char *text, const char *file, uint32_t line);
  /* Offset of a statically declared shared array; the same for all threads that give the same key.
   */
  uint32_t (*static_shared)(pluq_emu_block *block, const void *key, uint32_t bytes, uint32_t align,
                            const char *file, uint32_t line);
  /* Records and checks an access of a thread to shared memory. Bounds are checked by the caller. */
  void (*shared_access)(pluq_emu_block *block, uint32_t thread, uint32_t offset, uint32_t bytes,
                        uint32_t kind, const char *file, uint32_t line);
  /* Waits until all threads of the aligned group of `group` threads (32, or 128 for warpgroup
   * operations) that `mask` names (bit i: lane i; ignored when group > 32) call it with the same
   * `what` from the same place; the last one calls run. Orders no memory. */
  void (*collective)(pluq_emu_block *block, const char *what, uint32_t group, uint32_t mask,
                     void *operand, pluq_emu_run run, void *user, const char *file, uint32_t line);
  /* __syncwarp: a collective that also orders the warp's accesses. */
  void (*sync_warp)(pluq_emu_block *block, uint32_t mask, const char *file, uint32_t line);
  /* bar.sync (arrive 0) and bar.arrive (arrive 1). id 0..15; count of threads, 0: all of the block.
   */
  void (*barrier)(pluq_emu_block *block, uint32_t id, uint32_t count, uint32_t arrive,
                  const char *file, uint32_t line);
  /* cp.async: dst_bytes at offset dst, of which src_bytes come from src and the rest is zero. */
  void (*async_copy)(pluq_emu_block *block, uint32_t dst, const void *src, uint32_t dst_bytes,
                     uint32_t src_bytes, const char *file, uint32_t line);
  void (*async_commit)(pluq_emu_block *block); /* cp.async.commit_group */
  /* Waits until at most `pending` of this thread's groups are in flight; 0 also for copies not yet
   * committed when `all` is 1 (cp.async.wait_all). */
  void (*async_wait)(pluq_emu_block *block, uint32_t pending, uint32_t all, const char *file,
                     uint32_t line);
  /* The thread polls memory that another thread will change: lets others run. When every thread
   * that could run is polling, the kernel waits for a higher block, or for ever, and is stopped. */
  void (*pause)(pluq_emu_block *block, const char *file, uint32_t line);
  /* mbarrier objects (sm_90), named by their offset in shared memory. count: arrivals of a phase.
   */
  void (*mbar_init)(pluq_emu_block *block, uint32_t offset, uint32_t count, const char *file,
                    uint32_t line);
  /* One arrival that also expects tx_bytes of bulk copies in this phase. */
  void (*mbar_arrive)(pluq_emu_block *block, uint32_t offset, uint32_t tx_bytes, const char *file,
                      uint32_t line);
  /* Waits until the phase of this parity is over. */
  void (*mbar_wait)(pluq_emu_block *block, uint32_t offset, uint32_t parity, const char *file,
                    uint32_t line);
  /* cp.async.bulk: in flight until a wait on that mbarrier takes notice of it. */
  void (*bulk_copy)(pluq_emu_block *block, uint32_t dst, const void *src, uint32_t bytes,
                    uint32_t mbar_offset, const char *file, uint32_t line);

  /* The slots from here on are called only while block->checks has the bit that is named; a host
   * that lacks them never sets it. */

  /* GLOBAL_INIT, GLOBAL_RACES: an access of the running thread to device memory, its bounds and
   * alignment checked. kind: PLUQ_EMU_READ, _WRITE or _WRITE | _ATOMIC, and _ACQUIRE, _RELEASE. */
  void (*global_access)(pluq_emu_block *block, const void *p, uint32_t bytes, uint32_t kind,
                        const char *file, uint32_t line);
  /* GLOBAL_RACES: membar.gl. */
  void (*thread_fence)(pluq_emu_block *block);
  /* WGMMA: called while a wgmma is issued, for each of its threads: where the product with the
   * accumulators d[words] is to be formed. d itself holds PLUQ_EMU_UNFINISHED until a wait gives it
   * the result. a: this thread's four registers of A, or NULL. */
  uint32_t *(*wgmma_accumulators)(pluq_emu_block *block, uint32_t thread, uint32_t *d,
                                  uint32_t words, const uint32_t *a, const char *file,
                                  uint32_t line);
  /* WGMMA: the wgmma that is being issued by the warpgroup of first_thread reads 16 bytes of shared
   * memory, some time before the wait. */
  void (*wgmma_reads)(pluq_emu_block *block, uint32_t first_thread, uint32_t offset,
                      const char *file, uint32_t line);
  /* WGMMA: wgmma_fence, wgmma_commit, wgmma_wait of the running thread; op: PLUQ_EMU_WGMMA_*.
   * pending: groups that may stay in flight after a wait. */
  void (*wgmma_order)(pluq_emu_block *block, uint32_t op, uint32_t pending, const char *file,
                      uint32_t line);
  /* WGMMA: fails when one of `words` words is PLUQ_EMU_UNFINISHED, as far as
   * PLUQ_EMU_UNFINISHED_BITS say, and the running thread has a wgmma in flight. An empty file: the
   * place is not known. */
  void (*wgmma_value)(pluq_emu_block *block, const uint32_t *value, uint32_t words,
                      const char *file, uint32_t line);
  /* PROXY: fence_async_proxy, fence_mbar_init of the running thread; kind: PLUQ_EMU_FENCE_*. */
  void (*proxy_fence)(pluq_emu_block *block, uint32_t kind);
};

#ifdef __cplusplus
}
#endif
#endif /* PLUQ_EXT_CUDA_EMULATOR_H */
