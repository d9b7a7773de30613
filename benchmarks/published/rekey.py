"""Key published values to what this suite measures: `python benchmarks/published/rekey.py FOLDER`.

FOLDER holds `reference_values.csv` and `repairs_results.csv`, as collected. Written beside this file: `matched.csv` (the
protocol, weights and method are ours) and `published_only.csv` (all others, with the reason). No value is ever changed.
"""

from __future__ import annotations

import csv
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Not facts by their own account: never shipped.
UNFOUNDED = re.compile(r"\[(memory|inferred)\]|^\?$", re.IGNORECASE)
SECONDARY = re.compile(r"secondary text|third-party|quoted|SINDER", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Value:
    """A published value. task is empty, and `why` says why, where it is not keyed to a protocol of this suite.

    noise: half width of the 95 % interval over runs, where the source gives it. flag: what makes the value suspect; note:
    what was remarked when it was collected.
    """

    backbone: str
    repair: str
    task: str
    dataset: str
    metric: str
    value: str
    source: str
    confidence: str
    noise: str = ""
    flag: str = ""
    note: str = ""
    why: str = ""
    their_task: str = ""
    their_backbone: str = ""
    their_method: str = ""
    their_protocol: str = ""


def main(folder: Path, into: Path = HERE) -> None:
    mapping = tomllib.loads((HERE / "mapping.toml").read_text(encoding="utf-8"))
    rows = [keyed(row, mapping) for row in collected(folder, mapping) if founded(row)]
    values = deduplicated(rows)
    for name, kept in (
        ("matched", [v for v in values if v.task]),
        ("published_only", [v for v in values if not v.task]),
    ):
        write(into / f"{name}.csv", kept)
        sys.stdout.write(f"{name}.csv: {len(kept)} values\n")


def collected(folder: Path, mapping: Mapping[str, Any]) -> list[dict[str, str]]:
    """Both files in the columns of the first."""
    with (folder / "reference_values.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "repairs_results.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            row["value"], _, row["noise"] = row["value"].partition("±")
            label = row.pop("dataset_protocol")
            labels = {**mapping["labels"], **mapping["labels_of"].get(row["source"], {})}
            task, dataset, protocol, *metric = labels.get(label, ("", label, ""))
            row["metric"] = metric[0] if metric else row["metric"]
            tag = "readme" if "README" in row["source"] else "paper"
            rows.append({**row, "task": task, "dataset": dataset, "protocol": protocol, "tag": tag})
    return rows


def founded(row: Mapping[str, str]) -> bool:
    """Whether nothing in the row says that it is a guess."""
    return not any(UNFOUNDED.search(text or "") for text in row.values())


def keyed(row: Mapping[str, str], mapping: Mapping[str, Any]) -> Value:
    """A row under our names, as far as there are any, and why it is not matched where it is not."""
    backbone = mapping["backbones"].get(row["backbone"], row["backbone"])
    repair = mapping["methods"].get(row["method"], mapping["synonyms"].get(row["method"], row["method"]))
    if row["backbone"] in mapping["pairs"]:
        backbone, repair = mapping["pairs"][row["backbone"]]
    if row["method"].startswith("trained register") and "_dinov2." in backbone and "_reg4_" not in backbone:
        backbone = backbone.replace("_dinov2.", "_reg4_dinov2.")
        repair = "none" if row["method"] == "trained registers" else repair
    found = next((p for p in mapping["protocols"] if matches(p, row, backbone)), None)
    dataset = mapping["datasets"].get(row["dataset"], "")
    trust = confidence(row)
    reasons = [
        *([] if backbone in mapping["backbones"].values() else ["weights are not public or not in this suite"]),
        *([] if repair in mapping["methods"].values() else ["no such repair in this suite"]),
        *([] if found else [mapping["doubts"].get(row["protocol"], "no such protocol in this suite")]),
        *([] if dataset else ["no such data set in this suite"]),
        *(["quoted by others, protocol not verified"] if trust == "secondary" else []),
    ]
    whole = mapping["whole_image_corloc"].get(row["dataset"])
    degenerate = row["metric"] == "CorLoc" and whole is not None and abs(float(row["value"]) - whole) <= 0.3
    return Value(
        backbone=backbone,
        repair=repair,
        task=found["ours"] if found and not reasons else "",
        dataset=(found or {}).get("data") or dataset or row["dataset"],
        metric=(found["metrics"] if found else mapping["metrics"]).get(row["metric"], row["metric"]),
        value=row["value"],
        source=row["source"],
        confidence=trust,
        noise=row.get("noise") or str(mapping["noise"].get(row["protocol"], "")),
        flag="suspected degenerate: the whole-image box" if degenerate or "degenerate" in row["tag"] else "",
        note=row.get("note", ""),
        why="; ".join(reasons),
        their_task=row["task"],
        their_backbone=row["backbone"],
        their_method=row["method"],
        their_protocol=row["protocol"],
    )  # fmt: skip


def matches(protocol: Mapping[str, Any], row: Mapping[str, str], backbone: str) -> bool:
    """Whether a row was measured by one of our protocols."""
    patch = re.search(r"patch(\d+)", backbone)
    return (
        row["task"] == protocol["task"]
        and row["protocol"] in protocol["protocols"]
        and row["metric"] in protocol["metrics"]
        and row["dataset"] not in protocol.get("not_data", ())
        and ("patch" not in protocol or (patch is not None and int(patch[1]) == protocol["patch"]))
    )


def confidence(row: Mapping[str, str]) -> str:
    """How the value came to us: paper, readme, log, csv, issue, or secondary (quoted by someone else)."""
    if SECONDARY.search(row["tag"]) or SECONDARY.search(row["source"]):
        return "secondary"
    for word in ("paper", "readme", "csv", "log", "issue"):
        if word in row["tag"]:
            return word
    return row["tag"]


def deduplicated(values: Iterable[Value]) -> list[Value]:
    """One of several rows that give the same value for the same thing; rows that differ are all kept with their sources.

    The same thing: backbone, method, task, data set and metric, and protocols of which none is known to be another.
    """
    kept: dict[tuple[object, ...], list[Value]] = {}
    for v in sorted(values, key=lambda v: (not v.task, v)):
        number = round(float(v.value), 6)
        known = kept.setdefault((v.backbone, v.repair, v.their_task, v.dataset, v.metric, number), [])
        i = next((i for i, held in enumerate(known) if may_be_one(held, v)), None)
        if i is None:
            known.append(v)
        else:
            # A value's own interval is closer than "about" in the name of a protocol.
            held = known[i]
            closer = min((held, v), key=lambda x: (not x.noise, "about" in x.their_protocol))
            known[i] = replace(held, flag=held.flag or v.flag, note=held.note or v.note, noise=closer.noise)
    return sorted(v for known in kept.values() for v in known)


def may_be_one(a: Value, b: Value) -> bool:
    """Whether two values may be of one protocol: one of ours, or names of which one is how the other begins (or is missing)."""
    short, long = sorted((a.their_protocol, b.their_protocol), key=len)
    return long.startswith(short) or bool(a.task and a.task == b.task)


def write(path: Path, values: Iterable[Value]) -> None:
    """Values as CSV, in a fixed order."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Value)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(v) for v in values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
