"""The authors' PyTorch code, a checkout of jmliu206/LIC_TCM: a codec with our codec's methods, a training step."""

import importlib
import importlib.machinery
import importlib.util
import math
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import torch

from tcm_jax.model.config import reference_config
from tcm_jax.weights import pytorch
from tcm_jax.weights.weights import Weights


def prepare(threads: int, tf32: bool) -> str:
    """Sets up this process's PyTorch and returns its device; with `tf32` CUDA's products are as they come."""
    torch.set_num_threads(threads)
    if not tf32:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return "cuda" if torch.cuda.is_available() else "cpu"


class ReferenceCodec:
    """The authors' model behind the methods of our codec."""

    def __init__(self, folder: Path, weights: Weights, threads: int, tf32: bool = True):
        self.device = prepare(threads, tf32)
        n = weights.config.widths[0] // 2
        if weights.config != reference_config(n):
            sys.exit("the reference has no model of this configuration")
        self.model = import_reference(folder)(N=n).eval()
        state = {name: torch.from_numpy(value) for name, value in pytorch.from_flax(weights.params).items()}
        # Their own load_state_dict wants the coder's buffers as well; update() computes them.
        missing, unexpected = torch.nn.Module.load_state_dict(self.model, state, strict=False)
        if unexpected or any(not pytorch.BUFFERS.search(name) for name in missing):
            sys.exit(f"the reference's parameters have other names: {missing[:5]} {unexpected[:5]}")
        self.model.update()
        self.model.to(self.device)

    @torch.no_grad()
    def compress(self, x: np.ndarray) -> dict:
        """Float picture [1, 3, H, W] to the reference's streams."""
        return self.model.compress(torch.from_numpy(x).to(self.device))

    @torch.no_grad()
    def decompress(self, streams: dict) -> np.ndarray:
        """The reference's streams to the float picture [1, 3, H, W] in [0, 1]."""
        return self.model.decompress(streams["strings"], streams["shape"])["x_hat"].cpu().numpy()

    def compress_all(self, pictures: list[np.ndarray]) -> list[dict]:
        """Several pictures, one after the other: their decoder takes one."""
        return [self.compress(x) for x in pictures]

    def decompress_all(self, streams: list[dict]) -> int:
        """As many pictures decoded, one after the other; they stay there."""
        return len([self.decompress(stream) for stream in streams])


class ReferenceStep:
    """A step of the authors' train.py."""

    def __init__(self, folder: Path, config, params, batch: np.ndarray, threads: int, tf32: bool = True):
        device, self.lam = prepare(threads, tf32), config.lam
        self.model = import_reference(folder)(N=config.model.widths[0] // 2).to(device).train()
        state = {name: torch.from_numpy(np.array(value)) for name, value in pytorch.from_flax(params).items()}
        torch.nn.Module.load_state_dict(self.model, state, strict=False)
        named = dict(self.model.named_parameters())
        if named.keys() != state.keys():
            sys.exit("the reference has other parameters than this configuration")
        main = [value for name, value in named.items() if not name.endswith("quantiles")]
        aux = [value for name, value in named.items() if name.endswith("quantiles")]
        self.main = torch.optim.Adam(main, lr=config.learning_rate)
        self.aux = torch.optim.Adam(aux, lr=config.aux_learning_rate)
        picture = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) / 255
        self.x = torch.from_numpy(picture).to(device)

    def step(self) -> float:
        """One step; its loss."""
        self.main.zero_grad()
        self.aux.zero_grad()
        out = self.model(self.x)
        pixels = self.x[:, 0].numel()
        bits = sum(likelihood.log().sum() for likelihood in out["likelihoods"].values()) / -math.log(2)
        loss = self.lam * 255**2 * torch.nn.functional.mse_loss(out["x_hat"], self.x) + bits / pixels
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.main.step()
        self.model.aux_loss().backward()
        self.aux.step()
        return loss.item()


def import_reference(folder: Path) -> type[torch.nn.Module]:
    """The class TCM of `folder`/models/tcm.py."""
    if not (folder / "models" / "tcm.py").is_file():
        sys.exit(f"{folder} is no checkout of jmliu206/LIC_TCM: models/tcm.py is missing")
    base = type("BaseTransform", (), {})
    stand_in("torchvision.transforms")
    stand_in("torch_geometric.transforms", BaseTransform=base, Center=type("Center", (base,), {}))
    stand_in("torch_geometric.data", Data=type("Data", (), {}))
    stand_in("torch_geometric.data.datapipes", functional_transform=lambda name: lambda cls: cls)
    stand_in("timm.models.layers", trunc_normal_=torch.nn.init.trunc_normal_, DropPath=torch.nn.Identity)
    stand_in("pandas")
    sys.path.insert(0, str(folder))
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module("models.tcm").TCM


STAND_INS: set[str] = set()


def stand_in(name: str, **contents) -> None:
    """An otherwise empty module `name`, where its package is absent: imported by CompressAI, not used by TCM."""
    top = name.partition(".")[0]
    if top not in STAND_INS and importlib.util.find_spec(top):
        return
    STAND_INS.add(top)
    parent = None
    for depth in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:depth])
        if part not in sys.modules:
            sys.modules[part] = types.ModuleType(part)
            sys.modules[part].__spec__ = importlib.machinery.ModuleSpec(part, None)
        if parent:
            setattr(parent, part.rpartition(".")[2], sys.modules[part])
        parent = sys.modules[part]
    parent.__dict__.update(contents)
