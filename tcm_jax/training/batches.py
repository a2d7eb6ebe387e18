"""Training batches: pictures from folders, tar files or TFDS, cropped, flipped and shuffled by a Grain pipeline."""

import logging
import threading

import ml_collections
import numpy as np

from tcm_jax.errors import ConfigError, DataError, ImageError
from tcm_jax.images.datasets import open_dataset
from tcm_jax.images.sources import ImageSource

log = logging.getLogger(__name__)

# Batches are read ahead by threads (Pillow decodes outside the interpreter's lock); a few are enough and bound memory.
_READ_THREADS = 4
_READ_AHEAD = 8


class ReadableImages:
    """A source that keeps decoded pictures in memory and gives the next readable one in place of an unreadable one.

    Up to `cache_bytes` are kept in each process, first come, none ever evicted: under a shuffle every picture is as
    likely as any other to be wanted next, so eviction would only cost decoding.
    """

    def __init__(self, source: ImageSource, cache_bytes: int):
        self._source = source
        self._cache_bytes = cache_bytes
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._cache: dict[int, np.ndarray] = {}
        self._cached_bytes = 0
        self._unreadable: dict[int, str] = {}  # index: why

    def __getstate__(self) -> dict:
        return {"_source": self._source, "_cache_bytes": self._cache_bytes}

    def __setstate__(self, state: dict) -> None:  # In a worker process the cache starts empty.
        self.__dict__.update(state)
        self._start()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """(uint8 [H, W, 3], read-only; `index` if picture `index` itself is unreadable, else -1).

        Raises DataError when every picture of the source is unreadable.
        """
        for step in range(len(self)):
            image = self._read((index + step) % len(self))
            if image is not None:
                return image, index if step else -1
        raise DataError(f"none of the {len(self)} pictures can be read; the first: {self.reason(0)}")

    def reason(self, index: int) -> str:
        """Why picture `index` cannot be read."""
        self._read(index)
        return self._unreadable.get(index, f"{self._source.name(index)} could not be read")

    def _read(self, index: int) -> np.ndarray | None:
        if index in self._cache:
            return self._cache[index]
        if index in self._unreadable:
            return None
        try:
            image = self._source[index]
        except ImageError as error:
            self._unreadable[index] = str(error)
            return None
        image.setflags(write=False)
        with self._lock:
            if index not in self._cache and self._cached_bytes + image.nbytes <= self._cache_bytes:
                self._cache[index] = image
                self._cached_bytes += image.nbytes
        return image


def random_crop(image: np.ndarray, crop: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop, mirrored left to right in half the cases: uint8 [H, W, 3] -> uint8 [crop, crop, 3].

    A picture smaller than the crop is first continued by reflection, evenly on both sides.
    """
    missing = [max(crop - side, 0) for side in image.shape[:2]]
    if any(missing):
        image = np.pad(image, [(m // 2, m - m // 2) for m in missing] + [(0, 0)], mode="reflect")
    top, left = (int(rng.integers(side - crop + 1)) for side in image.shape[:2])
    image = image[top : top + crop, left : left + crop]
    return image[:, ::-1] if rng.integers(2) else image


class Batches:
    """Endless training batches of the data set `spec`: an iterator of uint8 [batch_size / processes, crop, crop, 3].

    Every epoch is shuffled and cropped anew. The sequence of pictures depends on `seed` and the pictures alone: not on
    `num_workers` (processes; 0 reads in threads of this one), nor on `cache_bytes` (decoded pictures kept in memory,
    per process). `batch_size` counts the pictures of all hosts: host `shard[0]` of `shard[1]` reads its own part of
    each batch. Unreadable pictures are named in the log, and the next readable one takes their turn.

    `position` is the number of pictures of the sequence that were used up; another `Batches` with `start=position`
    goes on there. Raises ConfigError for a bad spec, DataError if there are no pictures or none can be read.
    """

    def __init__(
        self,
        spec: str,
        batch_size: int,
        crop: int,
        seed: int,
        *,
        start: int = 0,
        shard: tuple[int, int] = (0, 1),
        num_workers: int = 0,
        cache_bytes: int = 1 << 30,
    ):
        if batch_size < 1 or crop < 1 or num_workers < 0:
            raise ConfigError(
                f"batch size {batch_size} and crop {crop} must be at least 1, workers {num_workers} at least 0"
            )
        if batch_size % shard[1]:
            raise ConfigError(f"batches of {batch_size} pictures cannot be shared among {shard[1]} hosts")
        self.position, self._batch_size = start, batch_size
        self.unreadable: set[int] = set()
        self._images = ReadableImages(open_dataset(spec, "train"), cache_bytes)
        self._images[0]  # if none can be read, say so here and not in a worker
        self._batches = iter(_pipeline(self._images, batch_size // shard[1], crop, seed, start, shard, num_workers))

    def __len__(self) -> int:
        """Number of pictures in the source."""
        return len(self._images)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> np.ndarray:
        crops, unreadable = next(self._batches)
        self.position += self._batch_size
        for index in sorted(set(unreadable[unreadable >= 0].tolist()) - self.unreadable):
            self.unreadable.add(index)
            reason, count = self._images.reason(index), len(self.unreadable)
            log.warning("skipped: %s (%d of %d pictures so far)", reason, count, len(self))
        return crops


def open_batches(config: ml_collections.ConfigDict, *, start: int = 0, shard: tuple[int, int] = (0, 1)) -> Batches:
    """The batches of a training configuration, from picture `start` on, for host `shard[0]` of `shard[1]`."""
    data = config.data
    return Batches(
        data.source, data.batch_size, data.crop, config.seed, start=start, shard=shard, num_workers=data.workers
    )


def _pipeline(images: ReadableImages, batch_size: int, crop: int, seed: int, start: int, shard, num_workers: int):
    """A Grain data set of (uint8 [batch_size, crop, crop, 3], index of each picture that was unreadable, or -1)."""
    import grain.python as grain

    index, count = shard
    dataset = (
        grain.MapDataset.source(images)
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(lambda item, rng: (random_crop(item[0], crop, rng), item[1]))[start:]
        .batch(batch_size, drop_remainder=True)[index::count]  # endless: rounding its length up could overflow
        .to_iter_dataset(grain.ReadOptions(num_threads=_READ_THREADS, prefetch_buffer_size=_READ_AHEAD))
    )
    if num_workers:
        _mark_flags_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2))
    return dataset


def _mark_flags_parsed() -> None:
    """Grain's worker processes read absl flags, which only programs under `absl.app.run` have parsed."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
