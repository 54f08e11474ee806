"""Image data in the layouts of its authors, made small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeCub = Callable[..., Path]
MakeCars = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of decoded images, a new one for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tune_bn" / "decoded"


def save_picture(path: Path, seed: int) -> None:
    """Noise, 20 to 28 pixels wide and high, in the format that the name says."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 29, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def make_cub(tmp_path: Path) -> MakeCub:
    """Write CUB_200_2011 below a new folder, which is returned: classes of five training and two test images."""

    def make(classes: Sequence[str] = ("001.Albatross", "002.Auklet", "003.Bunting")) -> Path:
        home = tmp_path / "birds" / "CUB_200_2011"
        files, labels, parts = [], [], []
        for label, name in enumerate(classes, start=1):
            for number in range(7):
                image = len(files) + 1
                file = f"{name}/{name[4:]}_{number:04d}.{'png' if number == 3 else 'jpg'}"
                save_picture(home / "images" / file, image)
                files.append(f"{image} {file}")
                labels.append(f"{image} {label}")
                parts.append(f"{image} {int(number < 5)}")
        names = [f"{label} {name}" for label, name in enumerate(classes, start=1)]
        for file, lines in (
            ("images.txt", files),
            ("image_class_labels.txt", labels),
            ("train_test_split.txt", parts),
            ("classes.txt", names),
        ):
            (home / file).write_text("\n".join(lines) + "\n")
        return home.parent

    return make


Annotations = Sequence[tuple[str, object]]


def save_annotations(path: Path, annotations: Annotations) -> None:
    """Write annotations of (fname, class) as the authors' MATLAB did: a struct array with a box around each car."""
    from scipy.io import savemat

    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    structs = np.empty((1, len(annotations)), dtype=[(field, object) for field in fields])
    for position, (file, label) in enumerate(annotations):
        structs[0, position] = (1, 1, 19, 19, np.uint8(label) if isinstance(label, int) else label, file)
    savemat(path, {"annotations": structs})


@pytest.fixture
def make_cars(tmp_path: Path) -> MakeCars:
    """Write the devkit's layout below a new folder ``stanford_cars``, which is returned: five and two of each class."""

    def make(
        classes: Sequence[str] = ("Acura TL Sedan 2012", "Ram C/V Cargo Van Minivan 2012", "smart fortwo"),
    ) -> Path:
        from scipy.io import savemat

        home = tmp_path / "stanford_cars"
        (home / "devkit").mkdir(parents=True)
        names = np.empty((1, len(classes)), dtype=object)
        names[0] = classes
        savemat(home / "devkit/cars_meta.mat", {"class_names": names})
        for folder, file, count in (
            ("cars_train", "devkit/cars_train_annos.mat", 5),
            ("cars_test", "cars_test_annos_withlabels.mat", 2),
        ):
            annotations = []
            for number in range(count * len(classes)):
                save_picture(home / folder / f"{number + 1:05d}.jpg", 100 * count + number)
                annotations.append((f"{number + 1:05d}.jpg", number % len(classes) + 1))
            save_annotations(home / file, annotations)
        return home

    return make
