"""From FASTQ to the classes of reads: which reads are classified, and how."""

import sys
import types

import numpy as np
import pytest
from dnaio import SequenceRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from read_predict_cases import FACTS, MIN_LENGTH, THRESHOLD, WIDTH, Fake, write, write_sample

from latentomics.config.base import Section
from latentomics.problems import InputError
from latentomics.reads import predict
from latentomics.reads.calibration import confidences
from latentomics.reads.models import registry
from latentomics.reads.models.strands import BothStrands
from latentomics.reads.predict import decide, joined, overlapping, predict_sample
from latentomics.reads.saved import load_model, save_model


def fate(*mates):
    """What becomes of a fragment, said a second time and slowly: (kind, class or None)."""
    usable = [mate[:WIDTH] for mate in mates if len(mate) >= MIN_LENGTH]
    if not usable:
        return None
    score = [sum(mate.count(base) for mate in usable) / len(usable) ** 0.5 / FACTS["temperature"] for base in "ACG"]
    share = np.exp(score) / np.exp(score).sum()
    return ("alone", "pair")[len(usable) - 1], int(share.argmax()) if share.max() >= THRESHOLD else 3


def test_every_read_meets_its_fate(tmp_path):
    fragments = write_sample(tmp_path)
    fates = [found for fragment in fragments if (found := fate(*fragment))]
    found = predict_sample("s", tmp_path, Fake())
    for kind, counts in (("alone", found.alone), ("pair", found.pairs)):
        assert counts.tolist() == [fates.count((kind, c)) for c in range(4)]
        assert counts.min() > 0
    reads = [read for fragment in fragments for read in fragment]
    assert found.reads == len(reads) == found.too_short + found.counts.sum()
    assert found.too_short == sum(len(read) < MIN_LENGTH for read in reads) > 0
    assert found.cut == sum(len(read) > WIDTH for read in reads) > 0
    assert found.bases == sum(min(len(read), WIDTH) for read in reads if len(read) >= MIN_LENGTH)


def test_what_lies_beyond_the_width_does_not_count(tmp_path):
    write(tmp_path / "reads.fastq.gz", ["A" * WIDTH + "C" * 50])
    assert predict_sample("s", tmp_path, Fake()).alone.tolist() == [1, 0, 0, 0]


def test_the_model_sees_a_bounded_number_of_reads_at_once(tmp_path, monkeypatch):
    write_sample(tmp_path, n=1500)
    whole = predict_sample("s", tmp_path, large := Fake())
    monkeypatch.setattr("latentomics.metagenome.fastq.READS_PER_CHUNK", 40)
    again = predict_sample("s", tmp_path, small := Fake())
    assert small.calls > 20 > large.calls
    assert large.largest <= 1024
    assert all(
        np.array_equal(getattr(whole, name), getattr(again, name)) for name in ("alone", "pairs", "reads", "bases")
    )


def test_damaged_reads_name_the_sample(tmp_path):
    write_sample(tmp_path / "cut")
    path = tmp_path / "cut" / "reads_2.fastq.gz"
    path.write_bytes(path.read_bytes()[:-200])
    write_sample(tmp_path / "odd")
    write(tmp_path / "odd" / "reads_2.fastq.gz", ["ACGTACGT"])
    write(tmp_path / "half" / "reads_1.fastq.gz", ["ACGTACGT"])
    for folder, what in (
        ("cut", "not readable"),
        ("odd", "mates are missing"),
        ("half", "no reads"),
        ("none", "no reads"),
    ):
        with pytest.raises(InputError, match=f"sample 'bad': {what}"):
            predict_sample("bad", tmp_path / folder, Fake())


def test_the_threshold_decides():
    logits = np.array([[2.0, 0, 0], [0, 0.1, 0], [0, 0, 9]], dtype=np.float32)
    assert decide(logits, 1.0, 0.7).tolist() == [0, 3, 2]
    assert decide(logits, 100.0, 0.7).tolist() == [3, 3, 3]
    assert decide(logits, 1.0, 0.0).tolist() == [0, 1, 2]
    assert decide(logits, 1.0, None).tolist() == [3, 3, 3]  # No threshold gives the precision asked for.


@given(st.integers(0, 2**32 - 1))
def test_a_pair_is_named_by_its_evidence_together_and_is_less_sure_than_its_sum(seed):
    first, second = np.random.default_rng(seed).normal(0, 3, (2, 20, 4)).astype(np.float32)
    both = joined(first, second)
    assert np.array_equal(both, joined(second, first))
    assert np.array_equal(both.argmax(axis=1), (first + second).argmax(axis=1))
    assert (confidences(both) <= confidences(first + second) + 1e-6).all()
    assert (confidences(both) >= confidences((first + second) / 2) - 1e-6).all()


def flipped(text):
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))


@settings(deadline=None)
@given(st.integers(20, 130), st.integers(20, 80), st.integers(20, 80), st.integers(20, 60), st.integers(0, 2**32 - 1))
def test_mates_overlap_where_what_the_model_sees_of_them_does(fragment, length_1, length_2, width, seed):
    text = "".join(np.random.default_rng(seed).choice(list("ACGT"), fragment))
    length_1, length_2 = min(length_1, fragment), min(length_2, fragment)
    mates = [SequenceRecord("x", read) for read in (text[:length_1], flipped(text)[:length_2])]
    common = min(length_1, width) - (fragment - min(length_2, width))
    assert overlapping(*([mate] for mate in mates), width).tolist() == [common >= 16]


def test_unknown_bases_and_short_mates_do_not_overlap():
    reads = [SequenceRecord("x", text) for text in ("N" * 40, "ACGT", "")]
    assert not overlapping(reads, reads, 40).any()


def test_the_second_mate_of_an_overlapping_pair_counts_but_has_no_say(tmp_path, monkeypatch):
    text = "AAAAAAAGGAGAGGGG"
    monkeypatch.setattr(predict, "_SEED", 8)
    write(tmp_path / "reads_1.fastq.gz", [text[:12], text[:12]])
    write(tmp_path / "reads_2.fastq.gz", [flipped(text)[:12], flipped(text[:4] + "T" + text[5:])[:12]])
    found = predict_sample("s", tmp_path, Fake())
    # As the first mate says. With the second's seven C it would be doubtful, as it is where they do not overlap.
    assert found.overlapping.tolist() == [1, 0, 0, 0]
    assert found.pairs.tolist() == [0, 0, 0, 1]
    assert found.counts.sum() == found.reads == 4


def test_a_saved_network_classifies_a_sample(tmp_path, monkeypatch):
    """Through the real folder of a model: its network counts A and T against C and G."""
    import torch

    class Content(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.eye(4)[:2])

        def forward(self, onehot, mask):
            return onehot.sum(dim=2) @ self.weights.T

    module = types.ModuleType("content", "A network for this test.")
    module.Params, module.build = Section, lambda params, n_classes: Content()
    monkeypatch.setitem(sys.modules, "content", module)
    monkeypatch.setitem(registry.MODELS, "content", "content")
    facts = {**FACTS, "model": "content", "params": {}, "classes": ["AT", "CG"], "training": {}}
    save_model(tmp_path / "model", BothStrands(Content()), facts)
    reads = ["AAATTATATAAC", "CGGCGGCCCG", "ACGTACGTAC", "ACG"]
    write(tmp_path / "reads" / "reads.fastq.gz", reads)
    found = predict_sample("s", tmp_path / "reads", load_model(tmp_path / "model"))
    assert found.alone.tolist() == [1, 1, 1]
    assert found.too_short == 1
