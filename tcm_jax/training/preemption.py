"""SIGTERM, by which clusters announce that they take a machine back."""

import signal

import jax


class Preemption:
    """Within its `with`, SIGTERM does not end the process but is noted."""

    def __enter__(self) -> "Preemption":
        self._noted = False
        # With several hosts JAX's coordination service catches the signal, and agrees on a step with all of them.
        self._before = None if jax.process_count() > 1 else signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, *_) -> None:
        self._noted = True

    def requested(self, step: int) -> bool:
        """Whether to save and stop now, after `step`; the same answer on every host."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return self._noted
