"""BDD100K box tracking (Yu et al. 2020, arXiv 1805.04687): frames of videos with numbered boxes, in Scalabel's JSON.

images/track/{train,val}/<video>/<video>-0000001.jpg  labels/box_track_20/{train,val}/<video>.json
"""

from __future__ import annotations

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.release import class_names
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree, joined


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """All frames in order, with boxes, their classes and the track each belongs to; crowds are left out."""
    rows, names = Rows(), {name: i for i, name in enumerate(class_names(card.label_file))}
    images = tree.first("images/track", "images")
    for file in tree.files(f"labels/box_track_20/{split}", (".json",)):
        video = file.removesuffix(".json")
        content = tree.json(f"labels/box_track_20/{split}/{file}")
        frames = content["frames"] if isinstance(content, dict) else content  # newer Scalabel wraps them
        tracks: dict[str, int] = {}
        for i, frame in enumerate(frames):
            boxes, classes, ids = [], [], []
            for item in frame.get("labels") or ():
                box = item.get("box2d")
                if box is None or item["category"] not in names or (item.get("attributes") or {}).get("crowd"):
                    continue
                boxes.append([float(box[side]) for side in ("x1", "y1", "x2", "y2")])
                classes.append(names[item["category"]])
                ids.append(tracks.setdefault(str(item["id"]), len(tracks)))
            rows.add(
                f"{video}/{frame['name'].rpartition('.')[0]}", joined(images, split, video, frame["name"]), boxes=boxes,
                boxes_class=classes, boxes_track=ids, frames={"video": video, "index": i, "count": len(frames)},
            )  # fmt: skip
    return rows


LAYOUT = Layout(index)
