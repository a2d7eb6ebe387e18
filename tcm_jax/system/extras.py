"""Optional dependencies: whoever lacks one is told the command that installs it."""

import contextlib
from collections.abc import Iterator

from tcm_jax.errors import MissingExtraError


@contextlib.contextmanager
def require_extra(extra: str, what: str) -> Iterator[None]:
    """For imports of what an extra of pyproject.toml installs; `what` begins the sentence ("figures need matplotlib").

    Raises MissingExtraError where one of them is not installed, or is but cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        reason = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        raise MissingExtraError(f'{what}{reason}: pip install "tcm_jax[{extra}]"') from error
