"""What a kernel is given, as C has it: XLA's `xla/ffi/api/c_api.h`, version 0, without its prefix; and our own."""

import ctypes
from ctypes import c_int32, c_int64, c_size_t, c_void_p

# Attributes of every call, which `calls.call` gives; XLA sorts attributes by name, "_" before letters.
COMMON_ATTRIBUTES = ("_kernel", "_parts", "_prepare", "_scratch")


class _Structure(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("extension_start", c_void_p))


class ApiVersion(_Structure):
    _fields_ = (("major_version", c_int32), ("minor_version", c_int32))


class Api(_Structure):
    """The beginning of the table of XLA's functions."""

    _fields_ = (
        ("api_version", ApiVersion),
        *((name, c_void_p) for name in (
            "internal_api", "XLA_FFI_Error_Create", "XLA_FFI_Error_GetMessage", "XLA_FFI_Error_Destroy",
            "XLA_FFI_Handler_Register", "XLA_FFI_Stream_Get", "XLA_FFI_Type_Register", "XLA_FFI_ExecutionContext_Get",
            "XLA_FFI_State_Set", "XLA_FFI_State_Get", "XLA_FFI_DeviceMemory_Allocate", "XLA_FFI_DeviceMemory_Free",
            "XLA_FFI_ThreadPool_Schedule", "XLA_FFI_ThreadPool_NumThreads",
        )),
    )  # fmt: skip


class ExtensionBase(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("type", c_int32), ("next", c_void_p))


class Metadata(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("api_version", ApiVersion))


class MetadataExtension(ctypes.Structure):
    _fields_ = (("extension_base", ExtensionBase), ("metadata", c_void_p))


class Buffer(_Structure):
    _fields_ = (("dtype", c_int32), ("data", c_void_p), ("rank", c_int64), ("dims", c_void_p))


class Scalar(ctypes.Structure):
    _fields_ = (("dtype", c_int32), ("value", c_void_p))


class Args(_Structure):
    _fields_ = (("size", c_int64), ("types", c_void_p), ("args", c_void_p))


class Rets(_Structure):
    _fields_ = (("size", c_int64), ("types", c_void_p), ("rets", c_void_p))


class Attrs(_Structure):
    _fields_ = (("size", c_int64), ("types", c_void_p), ("names", c_void_p), ("attrs", c_void_p))


class CallFrame(_Structure):
    _fields_ = (
        ("api", c_void_p), ("ctx", c_void_p), ("stage", c_int32), ("args", Args), ("rets", Rets), ("attrs", Attrs),
    )  # fmt: skip


class ThreadPoolScheduleArgs(_Structure):
    _fields_ = (("ctx", c_void_p), ("task", c_void_p), ("data", c_void_p))


class ThreadPoolNumThreadsArgs(_Structure):
    _fields_ = (("ctx", c_void_p), ("num_threads", c_void_p))


class Job(ctypes.Structure):
    """What the threads of one call share. In a call by XLA, whoever leaves it last frees it (`pool.py`)."""

    _fields_ = (
        ("users", c_int64),  # threads of XLA that may still read it
        ("taken", c_int64),  # parts that a thread has begun
        ("done", c_int64),
        ("parts", c_int64),
        ("frame", c_int64),
        ("kernel", c_int64),  # address of a C function (call frame, which part, scratch memory)
        ("scratch", c_int64),  # bytes
        ("schedule", ThreadPoolScheduleArgs),
        ("count", ThreadPoolNumThreadsArgs),
        ("threads", c_int64),  # the answer to `count`
    )


class Board(ctypes.Structure):
    """Where one thread tells others of the calls that it makes (`direct.py`)."""

    _fields_ = (
        ("open", c_int64),  # whether there may be more
        ("ticket", c_int64),  # how many there were
        ("job", c_int64),  # address of the last one's Job
    )
