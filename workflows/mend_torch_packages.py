"""Mends an environment in which CUDA builds of torch's companions stand beside a CPU build of torch.

    python workflows/mend_torch_packages.py

Such a torchvision cannot load its compiled operators, and then fails on the two whose schemas it
takes for granted. transformers, vllm and open_clip import it and fail with it, though none of them
calls these operators here: declaring the schemas is enough. Such a torchaudio or torchcodec fails
likewise and takes transformers with it; nothing here reads sound or video, so they are removed.
Run once per environment; where everything imports, nothing is done.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

SYMPTOM = "operator torchvision::nms does not exist"

# A finder, so that only a process that imports torchvision pays for importing torch; a .pth file,
# because every process of the environment needs it, those that vLLM and Ray start among them.
FINDER = '''\
"""Declares the operators that this environment's torchvision could not load, just before its import."""

import sys


class _BeforeTorchvision:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define(
                "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
            torch._torchvision_schemas = library  # the declarations live as long as this object
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
'''


def import_error(package: str) -> str:
    """What importing a package prints in a fresh process of this environment; "" if it works."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}"], capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def mend_torchvision() -> str:
    """Declares the missing schemas; returns what is still wrong, "" if nothing is."""
    if SYMPTOM not in import_error("torchvision"):
        return ""
    site = Path(sysconfig.get_path("purelib"))
    (site / "_torchvision_schemas.py").write_text(FINDER)
    (site / "_torchvision_schemas.pth").write_text("import _torchvision_schemas\n")
    print("torchvision does not match this torch: its operator schemas are declared on import now")
    return import_error("torchvision")


def remove_unloadable(package: str) -> str:
    """Uninstalls a package that cannot load its library; returns what is still wrong."""
    if "Could not load this library" not in import_error(package):
        return ""
    print(f"{package} does not match this torch and is not needed: removing it")
    command = [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def main() -> int:
    left = mend_torchvision() or remove_unloadable("torchaudio") or remove_unloadable("torchcodec")
    if left:
        print(f"error: this environment cannot be mended: {left.splitlines()[-1]}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
