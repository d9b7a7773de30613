"""Cards of the tasks, each with its protocols: frozen, versioned settings. No torch."""

from __future__ import annotations

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.attention import ATTENTION_SEGMENTATION, ATTENTION_SPREAD
from vitbench.catalogue.tasks.classification import KNN_CLASSIFICATION, LINEAR_CLASSIFICATION
from vitbench.catalogue.tasks.clusters import CLUSTER_SEGMENTATION
from vitbench.catalogue.tasks.correspondence import CORRESPONDENCE, VIEW_CORRESPONDENCE
from vitbench.catalogue.tasks.depth import DEPTH
from vitbench.catalogue.tasks.diagnostics import NEIGHBOUR_SIMILARITY, POSITION_LEAKAGE, RANK, SINGULAR_ALIGNMENT
from vitbench.catalogue.tasks.discovery import OBJECT_DISCOVERY, SALIENCY
from vitbench.catalogue.tasks.foreground import FOREGROUND_ALIGNMENT, PATCH_CLS_SIMILARITY, POINT_IN_BOX
from vitbench.catalogue.tasks.multilabel import MULTILABEL_CLASSIFICATION
from vitbench.catalogue.tasks.position import POSITION_MIC
from vitbench.catalogue.tasks.probes import PIXEL_PROBE, POSITION_PROBE, TOKEN_CLASSIFICATION, TOKEN_NORMS
from vitbench.catalogue.tasks.retrieval import INSTANCE_RETRIEVAL, RETRIEVAL
from vitbench.catalogue.tasks.segmentation import KNN_SEGMENTATION, LINEAR_SEGMENTATION
from vitbench.catalogue.tasks.video import LABEL_PROPAGATION
from vitbench.catalogue.tasks.zero_shot import ZERO_SHOT_CLASSIFICATION

TASK_CARDS: tuple[TaskCard, ...] = (
    LINEAR_SEGMENTATION,
    KNN_SEGMENTATION,
    CLUSTER_SEGMENTATION,
    DEPTH,
    OBJECT_DISCOVERY,
    SALIENCY,
    LABEL_PROPAGATION,
    CORRESPONDENCE,
    VIEW_CORRESPONDENCE,
    INSTANCE_RETRIEVAL,
    RETRIEVAL,
    KNN_CLASSIFICATION,
    LINEAR_CLASSIFICATION,
    MULTILABEL_CLASSIFICATION,
    ZERO_SHOT_CLASSIFICATION,
    POSITION_PROBE,
    PIXEL_PROBE,
    TOKEN_NORMS,
    NEIGHBOUR_SIMILARITY,
    POSITION_LEAKAGE,
    POSITION_MIC,
    RANK,
    FOREGROUND_ALIGNMENT,
    POINT_IN_BOX,
    PATCH_CLS_SIMILARITY,
    SINGULAR_ALIGNMENT,
    ATTENTION_SPREAD,
    ATTENTION_SEGMENTATION,
    TOKEN_CLASSIFICATION,
)
