import torch

from mtl.batch import Batch, Segment, length_groups, select_examples


def batch(*shapes: tuple[int, int]) -> Batch:
    """Segments of so many rows and tokens; a row's ids are its place, its label ten times that."""
    rows, longest, start = sum(count for count, _ in shapes), max(length for _, length in shapes), 0
    segments = []
    mask = torch.zeros(rows, longest, dtype=torch.long)
    for number, (count, length) in enumerate(shapes):
        mask[start : start + count, :length] = 1
        ids = torch.arange(start, start + count)
        segments.append(
            Segment(
                f"task{number}",
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
        "input_ids": mask * torch.arange(rows)[:, None],
        "attention_mask": mask,
        "mask_position": torch.arange(rows),
    }
    task_ids = torch.repeat_interleave(
        torch.arange(len(shapes)), torch.tensor([count for count, _ in shapes])
    )
    return Batch(tokens, task_ids, tuple(segments))


def test_segments_of_other_lengths_go_through_the_encoder_apart() -> None:
    assert length_groups(batch((4, 10), (4, 90), (4, 88))) == [
        (slice(0, 4), 10),
        (slice(4, 12), 90),
    ]


def test_a_pass_of_its_own_must_spare_more_than_it_costs() -> None:
    assert length_groups(batch((2, 10), (1, 40))) == [(slice(0, 2), 10), (slice(2, 3), 40)]
    assert length_groups(batch((1, 30), (1, 40))) == [(slice(0, 2), 40)]


def test_rectangles_cover_every_row_once_and_every_token() -> None:
    made = batch((3, 8), (0, 0), (5, 50), (1, 7))
    covered = torch.zeros_like(made.tokens["attention_mask"])
    for rows, length in length_groups(made):
        covered[rows, :length] += 1
    assert covered.max() == 1
    assert (covered >= made.tokens["attention_mask"]).all()


def test_taken_rows_keep_their_task_label_and_tokens() -> None:
    found = select_examples(batch((3, 8), (2, 5), (4, 12)), torch.tensor([7, 1, 2, 8]))
    assert [
        (s.task, s.examples, s.ids.tolist(), s.labels.tolist(), s.denominator, s.length)
        for s in found.segments
    ] == [
        ("task0", slice(0, 2), [1, 2], [10, 20], 2, 8),
        ("task2", slice(2, 4), [7, 8], [70, 80], 2, 12),
    ]
    assert found.task_ids.tolist() == [0, 0, 2, 2]
    assert found.tokens["mask_position"].tolist() == [1, 2, 7, 8]


def test_taken_rows_are_padded_to_the_longest_of_them() -> None:
    assert select_examples(batch((3, 8), (2, 5), (4, 12)), torch.tensor([0, 4])).tokens[
        "input_ids"
    ].shape == (2, 8)


def test_a_filler_may_be_taken_and_has_no_label() -> None:
    made = batch((1, 6))
    alone = made._replace(
        segments=(
            made.segments[0]._replace(
                labels=torch.zeros(0), ids=torch.zeros(0), weights=torch.zeros(0)
            ),
        )
    )
    segment = select_examples(alone, torch.tensor([0])).segments[0]
    assert (segment.examples, len(segment.labels), segment.length) == (slice(0, 1), 0, 6)
