"""Every exception that a caller sees of those that tcm_jax raises on purpose.

    TcmError
    ├── ImageError        a picture that cannot be read, or that the codec does not take
    ├── StreamError       a .tcm file that is truncated, altered, or not a .tcm file
    │   ├── ModelMismatchError   a .tcm file written with other weights
    │   └── ArithmeticMismatchError   decoded on a device whose arithmetic differs by more than the file allows
    ├── WeightsError      a weight file or checkpoint that cannot be used
    ├── DataError         a data set that is missing, empty or unreadable
    ├── ConfigError       a configuration or a flag that makes no sense
    ├── TrainingError     a training run that does not get on
    ├── Preempted         a training run that SIGTERM stopped, its state saved
    └── MissingExtraError a feature whose optional dependency is not installed

    TcmWarning            a picture is taken, but not all of what its file holds (a category for `warnings`)

The command line prints the message of a `TcmError` on one line and exits with status 1.
"""


class TcmError(Exception):
    """Base of all errors that a user of tcm_jax can mend."""


class ImageError(TcmError):
    """A picture cannot be read, or the codec does not take it."""


class StreamError(TcmError, OSError):
    """A `.tcm` file is truncated, altered, or no `.tcm` file at all; an OSError as users of Pillow expect one."""


class ModelMismatchError(StreamError):
    """A `.tcm` file was written with other weights than the ones loaded."""


class ArithmeticMismatchError(StreamError):
    """The decoder's arithmetic differs from the encoder's by more than the file's guard band."""


class WeightsError(TcmError):
    """A weight file or a checkpoint cannot be used."""


class DataError(TcmError):
    """A data set is missing, empty, or unreadable."""


class ConfigError(TcmError):
    """A configuration or a flag makes no sense."""


class TrainingError(TcmError):
    """A training run does not get on."""


class Preempted(TcmError):  # noqa: N818 - what happened, and no error
    """SIGTERM stopped a training run, and its state is saved."""


class MissingExtraError(TcmError):
    """An optional dependency is not installed; the message names the command that installs it."""


class TcmWarning(UserWarning):
    """A picture is taken without something that its file holds or should hold, such as a damaged colour profile."""
