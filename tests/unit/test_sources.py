"""Files, a cluster and a controller are all that a supervisor asks of a source."""
import pytest

from gwfast.config.source import Source
from gwfast.controller.source import ControllerSource
from gwfast.kubernetes.source import KubernetesSource
from gwfast.serve.files import Files

ASKED = {name for name, each in vars(Source).items() if callable(each) and not name.startswith("_")}


def test_what_is_asked() -> None:
    assert ASKED == {"load", "watch", "look_again", "metrics", "close"}


@pytest.mark.parametrize("source", [Files, KubernetesSource, ControllerSource])
def test_a_source_answers(source: type) -> None:
    assert {name for name in ASKED if not callable(getattr(source, name, None))} == set()
    assert hasattr(source, "waits")
