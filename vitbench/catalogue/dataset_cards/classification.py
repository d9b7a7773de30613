"""Cards of classification sets: ImageNet, the fine-grained sets of the registers paper, remote sensing."""

from __future__ import annotations

from typing import Any

from vitbench.catalogue.cards import DatasetCard, Source
from vitbench.catalogue.dataset_cards.segmentation import VOC2007_RELEASE, VOC_TERMS
from vitbench.catalogue.release import Download, Parquet, Release

_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_IMAGE_LABEL = {"image": "image", "label": "label"}
_TFDS = "TensorFlow Datasets (checksums)"
_TEST = {"val": "test"}
_NONE_STATED = "none stated by the authors, who ask to be cited"
_TRAINVAL_TEST = {"train": "trainval", "val": "test"}


def _labelled(
    name: str, entry: str, summary: str, splits: dict[str, int], release: Release, source: Source, **other: Any
) -> DatasetCard:
    return DatasetCard(
        name, f"vitbench.data.{entry}", summary, splits, ("label",), release=release, source=source, **other
    )


IMAGENET1K = _labelled(
    "imagenet1k", "imagefolder:LAYOUT", "ImageNet-1k: 1,000 classes in folders by WordNet id",
    {"train": 1281167, "val": 50000},
    Release(
        "imagenet",
        "register at image-net.org, then ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar unpacked into train/<wnid>/ and "
        "val/<wnid>/", size="145 GB",
        also=("imagenet1k", "ILSVRC2012"), hub_note="gated on the hub too: accept its terms first",
        hub=Parquet("ILSVRC/imagenet-1k", {"train": "train", "val": "validation"}, _IMAGE_LABEL),
    ),
    Source("Russakovsky et al.", 2015, "1409.0575", "https://image-net.org"), licence="non-commercial research, by registration",
)  # fmt: skip
CIFAR10 = _labelled(
    "cifar10", "cifar:LAYOUT", "CIFAR-10: 32 x 32 pixels, 10 classes", {"train": 50000, "test": 10000},
    Release(
        "cifar-10-batches-bin", "cifar-10-binary.tar.gz of www.cs.toronto.edu/~kriz/cifar.html, no registration",
        size="170 MB", facts_from=f"its page (md5) and {_TFDS}",
        downloads=(
            Download("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
        ),
        hub=Parquet("uoft-cs/cifar10", {"train": "train", "test": "test"}, {"image": "img", "label": "label"}),
    ),
    Source("Krizhevsky", 2009, url="https://www.cs.toronto.edu/~kriz/cifar.html"), roles=_TEST, label_file="cifar10",
    licence=_NONE_STATED, options={
        "files": {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}, "label_bytes": 1,
    },
)  # fmt: skip
CIFAR100 = _labelled(
    "cifar100", "cifar:LAYOUT", "CIFAR-100: 32 x 32 pixels, 100 fine classes", {"train": 50000, "test": 10000},
    Release(
        "cifar-100-binary", "cifar-100-binary.tar.gz of www.cs.toronto.edu/~kriz/cifar.html, no registration",
        size="169 MB", facts_from=f"its page (md5) and {_TFDS}",
        downloads=(
            Download("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
        ),
        hub=Parquet("uoft-cs/cifar100", {"train": "train", "test": "test"}, {"image": "img", "label": "fine_label"}),
    ),
    Source("Krizhevsky", 2009, url="https://www.cs.toronto.edu/~kriz/cifar.html"), roles=_TEST, label_file="cifar100",
    licence=_NONE_STATED, options={"files": {"train": ["train.bin"], "test": ["test.bin"]}, "label_bytes": 2},
)  # fmt: skip
AIRCRAFT = _labelled(
    "aircraft", "class_lists:AIRCRAFT", "FGVC-Aircraft: 100 variants", {"trainval": 6667, "test": 3333},
    Release(
        "fgvc-aircraft-2013b", f"fgvc-aircraft-2013b.tar.gz of {_VGG}/fgvc-aircraft, no registration",
        size="2.8 GB", facts_from=_TFDS,
        downloads=(Download(f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"),),
    ),
    Source("Maji et al.", 2013, "1306.5151"), roles=_TRAINVAL_TEST, licence="non-commercial research",
    differs="The banner that names the photographer below each image is left in, as torchvision leaves it.",
)  # fmt: skip
CUB = _labelled(
    "cub", "class_lists:BIRDS", "CUB-200-2011: 200 species of birds", {"train": 5994, "test": 5794},
    Release(
        "CUB_200_2011", "CUB_200_2011.tgz of data.caltech.edu/records/65de6-vp158, no registration",
        size="1.2 GB", facts_from=f"Avalanche (md5) and {_TFDS}",
        downloads=(
            Download(
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz", "97eceeb196236b17998738112f37df78"
            ),
        ),
    ),
    Source("Wah et al.", 2011, url="https://www.vision.caltech.edu/datasets/cub_200_2011/"), roles=_TEST,
)  # fmt: skip
CALTECH101 = _labelled(
    "caltech101", "imagefolder:LAYOUT", "Caltech-101: 101 classes, 30 train images each", {"train": 3030, "test": 5647},
    Release(
        "caltech101", "caltech-101.zip of data.caltech.edu/records/mzrjq-6wc02, its 101_ObjectCategories.tar.gz unpacked here",
        size="137 MB", facts_from=_TFDS, also=("caltech-101",),
    ),
    Source("Fei-Fei et al.", 2004, url="https://data.caltech.edu/records/mzrjq-6wc02"), roles=_TEST, licence="CC-BY-4.0",
    options={
        "folders": {"train": "101_ObjectCategories", "test": "101_ObjectCategories"}, "without": ("BACKGROUND_Google",),
        "train_per_class": 30,
    },
    differs="No split was released: 30 images of each class are dealt to train by the hash of their names.",
)  # fmt: skip
CARS = _labelled(
    "cars", "class_lists:CARS", "Stanford Cars: 196 models", {"train": 8144, "test": 8041},
    Release(
        "stanford_cars", "the original page is gone: cars_train, cars_test, devkit and cars_test_annos_withlabels.mat",
        size="2.0 GB", facts_from=_TFDS,
    ),
    Source("Krause et al.", 2013, url="https://ai.stanford.edu/~jkrause/cars/car_dataset.html"), roles=_TEST,
)  # fmt: skip
DTD = _labelled(
    "dtd", "class_lists:TEXTURES", "DTD: 47 textures, first of ten splits",
    {"train": 1880, "val": 1880, "trainval": 3760, "test": 1880},
    Release(
        "dtd", f"dtd-r1.0.1.tar.gz of {_VGG}/dtd, no registration", size="625 MB",
        facts_from=f"torchvision (md5) and {_TFDS}",
        downloads=(Download(f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz", "fff73e5086ae6bdbea199a49dfb8a4c1"),),
    ),
    Source("Cimpoi et al.", 2014, "1311.3618"), roles=_TRAINVAL_TEST, label_file="dtd", licence="research",
)  # fmt: skip
FLOWERS = _labelled(
    "flowers", "class_lists:FLOWERS", "Oxford Flowers-102", {"train": 1020, "val": 1020, "trainval": 2040, "test": 6149},
    Release(
        "flowers-102", f"102flowers.tgz, imagelabels.mat and setid.mat of {_VGG}/flowers/102, no registration",
        size="345 MB", facts_from="torchvision (md5) and TensorFlow Datasets (checksums, names of classes)",
        downloads=(
            Download(f"{_VGG}/flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", "flowers-102"),
            Download(f"{_VGG}/flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", "flowers-102"),
            Download(f"{_VGG}/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", "flowers-102"),
        ),
    ),
    Source("Nilsback and Zisserman", 2008, url=f"{_VGG}/flowers/102/"), roles=_TRAINVAL_TEST, label_file="flowers",
)  # fmt: skip
FOOD101 = _labelled(
    "food101", "class_lists:FOOD", "Food-101: 101 dishes", {"train": 75750, "test": 25250},
    Release(
        "food-101", "food-101.tar.gz of data.vision.ee.ethz.ch, no registration", size="5.0 GB",
        facts_from=f"torchvision (md5), {_TFDS}, and the licence in the archive, as ethz/food101 repeats it",
        downloads=(Download("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "85eeb15f3717b99a5da872d97d918f87"),),
        hub=Parquet("ethz/food101", {"train": "train", "test": "validation"}, _IMAGE_LABEL),
    ),
    Source("Bossard et al.", 2014, url="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"), roles=_TEST,
    licence="the images are Foodspotting's: any use beyond scientific fair use is for their owners to allow",
)  # fmt: skip
PETS = _labelled(
    "pets", "class_lists:PETS", "Oxford-IIIT Pet: 37 breeds", {"trainval": 3680, "test": 3669},
    Release(
        "oxford-iiit-pet", f"images.tar.gz and annotations.tar.gz of {_VGG}/pets, no registration",
        size="811 MB", facts_from=f"torchvision (md5) and {_TFDS}",
        downloads=(
            Download(f"{_VGG}/pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c", "oxford-iiit-pet"),
            Download(f"{_VGG}/pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f", "oxford-iiit-pet"),
        ),
    ),
    Source("Parkhi et al.", 2012, url=f"{_VGG}/pets/"), roles=_TRAINVAL_TEST, licence="CC-BY-SA-4.0",
)  # fmt: skip
SUN397 = _labelled(
    "sun397", "class_lists:SUN397", "SUN397: 397 kinds of scenes, first of ten partitions",
    {"train": 19850, "test": 19850},
    Release(
        "SUN397", "SUN397.tar.gz of vision.princeton.edu/projects/2010/SUN, and its Partitions.zip unpacked into it",
        size="39 GB", facts_from=f"torchvision (md5) and {_TFDS}",
        downloads=(
            Download("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz", "8ca2778205c41d23104230ba66911c7a"),
            Download("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip", into="SUN397"),
        ),
    ),
    Source("Xiao et al.", 2010, url="https://vision.princeton.edu/projects/2010/SUN/"), roles=_TEST,
)  # fmt: skip
PLACES205 = _labelled(
    "places205", "class_lists:PLACES205", "Places205: 205 kinds of places", {"train": 2448873, "val": 20500},
    Release("places205", "register at places.csail.mit.edu, then imagesPlaces205_resize.tar.gz and trainvalsplit_places205.tar.gz"),
    Source("Zhou et al.", 2014, url="http://places.csail.mit.edu"),
)  # fmt: skip
VOC2007_CLASSES = DatasetCard(
    name="voc2007_classes",
    entry="vitbench.data.voc:PRESENCE",
    summary="PASCAL VOC 2007: which of 20 classes are present, several per image",
    splits={"trainval": 5011, "test": 4952},
    roles=_TRAINVAL_TEST,
    targets=("labels",),
    label_file="voc_objects",
    licence=VOC_TERMS,
    source=Source("Everingham et al.", 2010, url="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"),
    release=VOC2007_RELEASE,
)
_DEALT = "No split was released: of each class 80 % are dealt to train by the hash of their names."
EUROSAT = _labelled(
    "eurosat", "imagefolder:LAYOUT", "EuroSAT (RGB): 10 kinds of land use, 64 x 64 pixels",
    {"train": 21600, "test": 5400},
    Release(
        "eurosat",
        "EuroSAT.zip (RGB) of github.com/phelber/eurosat, no registration",
        size="94 MB", facts_from=f"torchvision (md5) and {_TFDS}",
        downloads=(
            Download(
                "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                "c8fa014336c82ac7804f0398fcb19387", "eurosat",
            ),
        ),
        hub_note="the parquet timm/eurosat-rgb has another split",
    ),
    Source("Helber et al.", 2019, "1709.00029", "https://github.com/phelber/EuroSAT"), roles=_TEST, label_file="eurosat",
    licence="MIT", options={"folders": {"train": "2750", "test": "2750"}, "train_share": 0.8}, differs=_DEALT,
)  # fmt: skip
RESISC45 = _labelled(
    "resisc45", "imagefolder:LAYOUT", "NWPU-RESISC45: 45 kinds of scenes from above, 256 x 256 pixels",
    {"train": 25200, "test": 6300},
    Release(
        "NWPU-RESISC45", "NWPU-RESISC45.zip, TorchGeo's copy (huggingface.co/datasets/torchgeo/resisc45), no registration",
        size="427 MB", facts_from="TorchGeo: its module (md5) and its copy (size, licence)",
        downloads=(
            Download(
                "https://huggingface.co/datasets/torchgeo/resisc45/resolve/a826b44d938a883185f11ebe3d512d38b464312f/NWPU-RESISC45.zip",
                "75206b2e16446591afa88e2628744886",
            ),
        ),
    ),
    Source("Cheng et al.", 2017, "1703.00121", "https://gcheng-nwpu.github.io"), roles=_TEST, label_file="resisc45",
    licence="CC-BY-NC-4.0, as TorchGeo's copy says",
    options={"folders": {"train": "", "test": ""}, "train_share": 0.8}, differs=_DEALT,
)  # fmt: skip

CLASSIFICATION_SETS: tuple[DatasetCard, ...] = (
    IMAGENET1K, CIFAR10, CIFAR100, AIRCRAFT, CUB, CALTECH101, CARS, DTD, FLOWERS, FOOD101, PETS, SUN397, PLACES205,
    VOC2007_CLASSES, EUROSAT, RESISC45,
)  # fmt: skip
