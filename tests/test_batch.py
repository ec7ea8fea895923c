import torch

from mtl.batch import Batch, Segment, length_groups, select_examples


def batch(*shapes: tuple[int, int]) -> Batch:
    """Segments of given sizes and lengths; ids are indices in the batch, labels 10 * ids."""
    examples, longest, start = (
        sum(count for count, _ in shapes),
        max(length for _, length in shapes),
        0,
    )
    segments = []
    mask = torch.zeros(examples, longest, dtype=torch.long)
    for index, (count, length) in enumerate(shapes):
        mask[start : start + count, :length] = 1
        ids = torch.arange(start, start + count)
        segments.append(
            Segment(
                f"task{index}",
                slice(start, start + count),
                10 * ids,
                ids,
                torch.ones(count),
                count,
                length,
            )
        )
        start += count
    tokens = {
        "input_ids": mask * torch.arange(examples)[:, None],
        "attention_mask": mask,
        "mask_position": torch.arange(examples),
    }
    task_ids = torch.repeat_interleave(
        torch.arange(len(shapes)), torch.tensor([count for count, _ in shapes])
    )
    return Batch(tokens, task_ids, tuple(segments))


def test_segments_of_different_lengths_are_encoded_separately() -> None:
    assert length_groups(batch((4, 10), (4, 90), (4, 88))) == [
        (slice(0, 4), 10),
        (slice(4, 12), 90),
    ]


def test_segments_are_separated_only_if_that_saves_more_than_a_pass_costs() -> None:
    assert length_groups(batch((2, 10), (1, 40))) == [(slice(0, 2), 10), (slice(2, 3), 40)]
    assert length_groups(batch((1, 30), (1, 40))) == [(slice(0, 2), 40)]


def test_length_groups_cover_every_example_once_and_every_token() -> None:
    mask = (mixed := batch((3, 8), (0, 0), (5, 50), (1, 7))).tokens["attention_mask"]
    covered = torch.zeros_like(mask)
    for examples, length in length_groups(mixed):
        covered[examples, :length] += 1
    assert covered.max() == 1
    assert (covered >= mask).all()


def test_selected_examples_keep_their_task_label_and_tokens() -> None:
    selected = select_examples(batch((3, 8), (2, 5), (4, 12)), torch.tensor([7, 1, 2, 8]))
    assert [
        (s.task, s.examples, s.ids.tolist(), s.labels.tolist(), s.denominator, s.length)
        for s in selected.segments
    ] == [
        ("task0", slice(0, 2), [1, 2], [10, 20], 2, 8),
        ("task2", slice(2, 4), [7, 8], [70, 80], 2, 12),
    ]
    assert selected.task_ids.tolist() == [0, 0, 2, 2]
    assert selected.tokens["mask_position"].tolist() == [1, 2, 7, 8]


def test_selected_examples_are_padded_to_the_longest_of_them() -> None:
    assert select_examples(batch((3, 8), (2, 5), (4, 12)), torch.tensor([0, 4])).tokens[
        "input_ids"
    ].shape == (2, 8)


def test_a_selected_filler_has_no_label() -> None:
    single = batch((1, 6))
    filler = single._replace(
        segments=(
            single.segments[0]._replace(
                labels=torch.zeros(0), ids=torch.zeros(0), weights=torch.zeros(0)
            ),
        )
    )
    segment = select_examples(filler, torch.tensor([0])).segments[0]
    assert (segment.examples, len(segment.labels), segment.length) == (slice(0, 1), 0, 6)
