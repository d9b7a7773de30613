"""Cards of sets with boxes, videos, keypoints and landmarks."""

from __future__ import annotations

from vitbench.catalogue.cards import DatasetCard, Source
from vitbench.catalogue.release import Download, Release

_COCO = "http://images.cocodataset.org"
COCO20K = DatasetCard(
    name="coco20k",
    entry="vitbench.data.coco:BOXES",
    summary="COCO20k: boxes of 19,817 images of COCO train2014, for object discovery",
    splits={"train2014": 19817},
    roles={"val": "train2014", "train": "train2014"},
    targets=("boxes",),
    licence="CC-BY-4.0 for the annotations; Flickr terms of use for the images",
    source=Source("Vo et al.", 2020, "2007.02662"),
    release=Release(
        "coco",
        f"{_COCO}/zips/train2014.zip into coco/images/, and {_COCO}/annotations/annotations_trainval2014.zip into coco/, no "
        "registration; the list of images ships with vitbench",
        size="14 GB",
        facts_from="TensorFlow Datasets (checksums)",
        also=("COCO",),
        downloads=(
            Download(f"{_COCO}/zips/train2014.zip", into="coco/images"),
            Download(f"{_COCO}/annotations/annotations_trainval2014.zip", into="coco"),
        ),
    ),
    options={
        "list": "coco20k",
        "annotations": "annotations/instances_train2014.json",
        "images": "images/train2014",
    },
    differs="Crowds are left out; boxes are rounded to whole pixels, as LOST does.",
)
_DAVIS_2017 = "https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip"
_DAVIS_TERMS = "BSD, as the authors' repository says"
_DAVIS_RELEASE = Release(
    "DAVIS",
    "DAVIS-2017-trainval-480p.zip of davischallenge.org, no registration",
    size="833 MB",
    facts_from="TensorFlow Datasets (checksums), FiftyOne (frames) and the authors' repository (licence)",
    downloads=(Download(_DAVIS_2017),),
)
DAVIS2017 = DatasetCard(
    name="davis2017",
    entry="vitbench.data.davis:LAYOUT",
    summary="DAVIS 2017: frames of 60 train and 30 val videos, numbered object masks on each",
    splits={"train": 4209, "val": 1999},
    targets=("segmentation", "frames"),
    palette="voc",
    licence=_DAVIS_TERMS,
    source=Source("Pont-Tuset et al.", 2017, "1704.00675", "https://davischallenge.org"),
    release=_DAVIS_RELEASE,
    options={"year": 2017},
)
DAVIS2016 = DatasetCard(
    name="davis2016",
    entry="vitbench.data.davis:LAYOUT",
    summary="DAVIS 2016: frames of 30 train and 20 val videos with one object each",
    splits={"train": 2079, "val": 1376},
    targets=("segmentation", "frames"),
    classes=("background", "object"),
    object_classes=(1,),
    licence=_DAVIS_TERMS,
    source=Source("Perazzi et al.", 2016, url="https://davischallenge.org"),
    release=Release(
        "DAVIS2016",
        "DAVIS-data.zip of graphics.ethz.ch/Downloads/Data/Davis, no registration, and its folder DAVIS renamed",
        size="1.9 GB",
        facts_from="the authors' repository",
        also=("DAVIS-2016", "DAVIS_2016"),
    ),
    options={"year": 2016},
)
BDD100K_TRACKING = DatasetCard(
    name="bdd100k_tracking",
    entry="vitbench.data.bdd100k:LAYOUT",
    summary="BDD100K box tracking: frames of 1,400 train and 200 val drives at 5 Hz, numbered boxes of 8 classes",
    splits={"train": 0, "val": 0},
    targets=("boxes", "frames"),
    label_file="bdd100k_tracking",
    licence="education, research and not-for-profit purposes, by registration",
    source=Source("Yu et al.", 2020, "1805.04687", "https://bdd-data.berkeley.edu"),
    release=Release(
        "bdd100k",
        "register at bdd-data.berkeley.edu, then MOT 2020 Images (images/track) and MOT 2020 Labels (box_track_20: 115 MB, md5 "
        "6be40e0ca56a83ddeba2ed6bff50f9e6)",
        facts_from="the authors' repository (doc/source), TrackEval (videos)",
    ),
)
SPAIR71K = DatasetCard(
    name="spair71k",
    entry="vitbench.data.spair:LAYOUT",
    summary="SPair-71k: 70,958 pairs of 1,800 images of 18 categories with matching keypoints",
    splits={"train": 0, "val": 0, "test": 0},
    roles={"val": "test", "validation": "val"},
    targets=("keypoints", "label"),
    label_file="spair",
    options={"pairs": {"train": 53340, "val": 5384, "test": 12234}},
    source=Source("Min et al.", 2019, "1908.10543", "http://cvlab.postech.ac.kr/research/SPair-71k/"),
    release=Release(
        "SPair-71k",
        "SPair-71k.tar.gz of cvlab.postech.ac.kr/research/SPair-71k, no registration",
        size="227 MB",
        facts_from="the hub's 0jl/SPair-71k, a script that reads the authors' archive",
        downloads=(Download("http://cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz"),),
    ),
)


_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_REVISITED = "http://cmp.felk.cvut.cz/revisitop/data/datasets"


def _landmarks(name: str, title: str, database: int, images: str, licence: str = "") -> DatasetCard:
    return DatasetCard(
        name=name,
        entry="vitbench.data.revisited:LAYOUT",
        summary=f"Revisited {title}: retrieval of landmarks, 70 queries",
        splits={"query": 70, "database": database},
        roles={"val": "query", "train": "database"},
        targets=("relevance",),
        licence=licence,
        source=Source("Radenovic et al.", 2018, "1803.11285", "http://cmp.felk.cvut.cz/revisitop/"),
        release=Release(
            name,
            f"{images}, unpacked into {name}/jpg/, and {_REVISITED}/{name}/gnd_{name}.pkl; no registration",
        ),
        options={"truth": f"gnd_{name}.pkl"},
        differs="Queries are cut to their box when they are read.",
    )


ROXFORD5K = _landmarks(
    "roxford5k", "Oxford", 4993, f"{_VGG}/oxbuildings/oxbuild_images-v1.tgz",
    "Flickr terms of use for the images, and VGG's terms of access",
)  # fmt: skip
RPARIS6K = _landmarks("rparis6k", "Paris", 6322, f"{_VGG}/parisbuildings/paris_1-v1.tgz and paris_2-v1.tgz")

OBJECT_SETS: tuple[DatasetCard, ...] = (
    COCO20K, DAVIS2017, DAVIS2016, BDD100K_TRACKING, SPAIR71K, ROXFORD5K, RPARIS6K,
)  # fmt: skip
