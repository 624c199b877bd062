/* SPDX-License-Identifier: Apache-2.0
 * A constructor with one AVX instruction, linked into a good plugin: the kit must find it. */
__attribute__((constructor)) static void too_early(void) { __asm__ volatile("vzeroupper"); }
