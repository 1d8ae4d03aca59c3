"""Makes `import torchvision` work where a CUDA build of it stands beside a CPU build of torch.

    python workflows/mend_torchvision.py

Such a torchvision cannot load its compiled operators, and then fails on the two whose schemas it
takes for granted. transformers, vllm and open_clip import it and fail with it, though none of them
calls these operators here. Run once per environment; where torchvision imports, nothing is done.
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


def import_error() -> str:
    """What `import torchvision` prints in a fresh process of this environment; "" if it works."""
    done = subprocess.run(
        [sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def main() -> int:
    if SYMPTOM not in import_error():
        return 0
    site = Path(sysconfig.get_path("purelib"))
    (site / "_torchvision_schemas.py").write_text(FINDER)
    (site / "_torchvision_schemas.pth").write_text("import _torchvision_schemas\n")
    if left := import_error():
        print(f"error: torchvision still does not import: {left.splitlines()[-1]}", file=sys.stderr)
        return 1
    print("torchvision does not match this torch: its operator schemas are now declared on import")
    return 0


if __name__ == "__main__":
    sys.exit(main())
