#!/usr/bin/env python3
"""One linear layer of a checkpoint from Python, through ctypes alone:
    linear.py <pluq>/lib/libpluq.so MODEL model.layers.0.mlp.up_proj [PLUGIN_DIR]
Where NumPy is installed, x goes in and y and W come out through DLPack without a copy. The check of y = x W^T is pure
Python."""
import ctypes as c
import sys

try:
    import numpy
except ImportError:
    numpy = None


class EngineOptions(c.Structure):
    _fields_ = [('struct_size', c.c_uint32), ('flags', c.c_uint32), ('plugin_directories', c.POINTER(c.c_char_p)),
                ('plugin_directory_count', c.c_size_t), ('allow_list', c.c_char_p), ('n_workers', c.c_int32), ('reserved', c.c_uint32),
                ('parallel', c.c_void_p), ('parallel_user', c.c_void_p), ('allocate', c.c_void_p), ('release', c.c_void_p),
                ('memory_user', c.c_void_p)]


class LinearOptions(c.Structure):
    _fields_ = [('struct_size', c.c_uint32), ('compute', c.c_uint32), ('activations', c.c_uint32), ('reserved', c.c_uint32),
                ('max_tokens', c.c_int64)]


class LinearInfo(c.Structure):
    _fields_ = [('struct_size', c.c_uint32), ('reserved', c.c_uint32), ('in_features', c.c_int64), ('out_features', c.c_int64),
                ('format', c.c_char_p), ('scheme', c.c_char_p), ('kernel', c.c_char_p), ('bits_per_weight', c.c_double)]


class DLTensor(c.Structure):
    _fields_ = [('data', c.c_void_p), ('device_type', c.c_int32), ('device_id', c.c_int32), ('ndim', c.c_int32),
                ('dtype_code', c.c_uint8), ('dtype_bits', c.c_uint8), ('dtype_lanes', c.c_uint16), ('shape', c.POINTER(c.c_int64)),
                ('strides', c.POINTER(c.c_int64)), ('byte_offset', c.c_uint64)]


class DLManagedTensor(c.Structure):
    pass


DLManagedTensor._fields_ = [('dl_tensor', DLTensor), ('manager_ctx', c.c_void_p),
                            ('deleter', c.CFUNCTYPE(None, c.POINTER(DLManagedTensor)))]


# The two calls of CPython that make and open DLPack's capsules.
capsule_new = c.PYFUNCTYPE(c.py_object, c.c_void_p, c.c_char_p, c.c_void_p)(('PyCapsule_New', c.pythonapi))
capsule_pointer = c.PYFUNCTYPE(c.c_void_p, c.py_object, c.c_char_p)(('PyCapsule_GetPointer', c.pythonapi))


class Tensor:
    """A result of libpluq for numpy.from_dlpack and its like: they call the deleter when their array goes. Take it over once."""

    def __init__(self, managed):
        self.managed = managed

    def __dlpack_device__(self):
        return 1, 0  # the CPU

    def __dlpack__(self, **_):
        return capsule_new(c.cast(self.managed, c.c_void_p), b'dltensor', None)


class Pluq:
    def __init__(self, library, plugin_dir=None):
        self.lib = c.CDLL(library)
        for name in ('pluq_engine_create', 'pluq_linear_create', 'pluq_linear_forward', 'pluq_linear_dequantize_dlpack',
                     'pluq_linear_forward_dlpack'):
            getattr(self.lib, name).restype = c.c_void_p
        self.lib.pluq_status_message.restype = c.c_char_p
        self.lib.pluq_status_message.argtypes = self.lib.pluq_status_release.argtypes = [c.c_void_p]
        for name in ('pluq_engine_destroy', 'pluq_linear_destroy'):
            getattr(self.lib, name).argtypes = [c.c_void_p]
        options = EngineOptions(struct_size=c.sizeof(EngineOptions), n_workers=2)
        if plugin_dir:
            options.plugin_directories = (c.c_char_p * 1)(plugin_dir.encode())
            options.plugin_directory_count = 1
        self.engine = c.c_void_p()
        self.check(self.lib.pluq_engine_create(c.byref(options), c.byref(self.engine)))

    def check(self, status):
        if status:
            text = self.lib.pluq_status_message(status).decode()
            self.lib.pluq_status_release(status)
            raise RuntimeError(text)

    def linear(self, model, name):
        options = LinearOptions(struct_size=c.sizeof(LinearOptions), compute=0, activations=1)
        out = c.c_void_p()
        self.check(self.lib.pluq_linear_create(self.engine, model.encode(), name.encode(), c.byref(options), c.byref(out)))
        return out


    def forward(self, layer, x):
        """y of an array of float32 that has __dlpack__ (NumPy, PyTorch on the CPU); x stays the caller's."""
        capsule = x.__dlpack__()
        given = c.cast(capsule_pointer(capsule, b'dltensor'), c.POINTER(DLManagedTensor))
        y = c.POINTER(DLManagedTensor)()
        self.check(self.lib.pluq_linear_forward_dlpack(layer, c.byref(given.contents.dl_tensor), c.byref(y)))
        return Tensor(y)

    def weight(self, layer):
        w = c.POINTER(DLManagedTensor)()
        self.check(self.lib.pluq_linear_dequantize_dlpack(layer, c.byref(w)))
        return Tensor(w)


def with_numpy(pluq, layer, k):
    """True when y is x W^T, with arrays that lie where libpluq and NumPy put them."""
    x = numpy.sin(numpy.arange(2 * 3 * k, dtype=numpy.float32)).reshape(2, 3, k)
    y, w = numpy.from_dlpack(pluq.forward(layer, x)), numpy.from_dlpack(pluq.weight(layer))
    error = numpy.abs(y - x.astype(numpy.float64) @ w.T.astype(numpy.float64)).max() / numpy.abs(y).max()
    print(f'NumPy {numpy.__version__}: y {y.shape}, W {w.shape}, difference {error:.1e}')
    try:
        pluq.forward(layer, x.astype(numpy.float64))
        return False
    except RuntimeError as refusal:
        print('float64:', refusal)
    return y.shape == (2, 3, w.shape[0]) and error < 1e-5


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    pluq = Pluq(sys.argv[1], *sys.argv[4:])
    layer = pluq.linear(sys.argv[2], sys.argv[3])
    info = LinearInfo(struct_size=c.sizeof(LinearInfo))
    pluq.lib.pluq_linear_describe(layer, c.byref(info))
    n, k = info.out_features, info.in_features
    print(f'{sys.argv[3]}: {info.format.decode()} {info.scheme.decode()} by {info.kernel.decode()}, [{n}, {k}]')
    x = (c.c_float * (2 * k))(*[((i * 37) % 101 - 50) / 50 for i in range(2 * k)])
    y = (c.c_float * (2 * n))()
    pluq.check(pluq.lib.pluq_linear_forward(layer, x, c.c_int64(k), c.c_int64(2), y, c.c_int64(n)))
    managed = c.POINTER(DLManagedTensor)()
    pluq.check(pluq.lib.pluq_linear_dequantize_dlpack(layer, c.byref(managed)))
    w = c.cast(managed.contents.dl_tensor.data, c.POINTER(c.c_float))
    worst = max(abs(sum(x[m * k + i] * w[j * k + i] for i in range(k)) - y[m * n + j]) for m in range(2) for j in range(0, n, max(1, n // 16)))
    largest = max(abs(v) for v in y)
    print(f'difference from the dequantized weight: {worst / largest:.1e}')
    managed.contents.deleter(managed)
    good = numpy is None or with_numpy(pluq, layer, k)
    try:
        pluq.linear(sys.argv[2], 'no.such.layer')
        sys.exit('a layer that is not there was accepted')
    except RuntimeError as error:
        print('a layer that is not there:', error)
    pluq.lib.pluq_linear_destroy(layer)
    pluq.lib.pluq_engine_destroy(pluq.engine)
    sys.exit(0 if worst < 1e-5 * largest and good else 1)


main()
