"""Settings that measure nothing are refused where they are typed, before anything runs."""

from __future__ import annotations

import pytest

from vitbench.catalogue.resolve import expand_tasks
from vitbench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("object_discovery@lost[k=0]", "k=0 is too small - it is at least 1"),
        ("object_discovery@lost_norm[k=-3]", "k=-3 is too small"),
        ("object_discovery@lost[gram_bias=nan]", "gram_bias='nan' is not a number"),
        ("saliency[tau=inf]", "tau=inf is not finite"),
        ("knn_segmentation@hummingbird[temperature=0]", "temperature=0.0 is too small - it is above zero"),
        ("knn_segmentation@hummingbird[memory_size=-1]", "memory_size=-1"),
        ("knn_segmentation@capi[holdout=1]", "holdout=1.0 is no share"),
        ("knn_segmentation@centroid[k=0]", "k=0"),
        ("label_propagation[top_k=0]", "top_k=0"),
        ("label_propagation[radius=-1]", "radius=-1 is too small - it is at least 0"),
        ("knn_classification@dino[temperature=-1]", "temperature=-1.0"),
        ("linear_segmentation@ridge[lambda_steps=0]", "lambda_steps=0"),
        ("depth@ridge[image_px=0]", "image_px=0"),
        ("position_mic[image_px=0]", "image_px=0"),
    ],
)
def test_a_number_out_of_bounds_is_named_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        expand_tasks(text)
    assert said in str(caught.value)
