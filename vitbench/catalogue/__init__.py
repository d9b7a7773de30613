"""Cards of everything registered, and the registries that hold them. Importing this imports no torch."""

from __future__ import annotations

from vitbench.catalogue.backbones import BACKBONE_CARDS
from vitbench.catalogue.cards import BackboneCard, DatasetCard, DefectCard, RepairCard, TaskCard
from vitbench.catalogue.datasets import DATASET_CARDS
from vitbench.catalogue.defects import DEFECT_CARDS
from vitbench.catalogue.denoising import DENOISING_CARDS
from vitbench.catalogue.edits import EDIT_CARDS
from vitbench.catalogue.ensembles import ENSEMBLE_CARDS
from vitbench.catalogue.positions import POSITION_CARDS
from vitbench.catalogue.repairs import REPAIR_CARDS
from vitbench.catalogue.singular import SINGULAR_CARDS
from vitbench.catalogue.sound import require_sound
from vitbench.catalogue.tasks import TASK_CARDS
from vitbench.registry import Registry

BACKBONES: Registry[BackboneCard] = Registry(
    "backbone", BACKBONE_CARDS, base="vitbench.backbones.base:Backbone", require=require_sound
)
DEFECTS: Registry[DefectCard] = Registry("defect", DEFECT_CARDS, require=require_sound)
REPAIRS: Registry[RepairCard] = Registry(
    "repair",
    (*REPAIR_CARDS, *EDIT_CARDS, *SINGULAR_CARDS, *ENSEMBLE_CARDS, *DENOISING_CARDS, *POSITION_CARDS),
    base="vitbench.repairs.base:Repair",
    require=require_sound,
)
TASKS: Registry[TaskCard] = Registry("task", TASK_CARDS, base="vitbench.tasks.base:Task", require=require_sound)
DATASETS: Registry[DatasetCard] = Registry("dataset", DATASET_CARDS, require=require_sound)
