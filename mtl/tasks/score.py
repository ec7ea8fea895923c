"""Scores of a run: expressions in the metrics of its tasks."""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from mtl.errors import UserError, reject_unknown


class Score:
    """A suite's own score: an expression in the metrics of its tasks.

    >>> score = Score("(sst.accuracy + (sts.pearson + 1) / 2) / 2")
    >>> score({"sst": {"accuracy": 0.5}, "sts": {"pearson": 0.8}})
    0.7

    Args:
        text: Sums, differences, products and quotients of numbers and of metrics, written
            `task.metric`, or `mnli/matched.accuracy` for one split of several.

    Raises:
        UserError: If the text is not such an expression.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.metrics: list[tuple[str, str]] = []
        try:
            self._tree = ast.parse(re.sub(_METRIC, self._placeholder, text), mode="eval").body
        except SyntaxError as error:
            raise UserError(f"score {text!r}: not an expression: {error.msg}") from error
        self._evaluate(self._tree, [1.0] * len(self.metrics))

    def __call__(self, metrics: Mapping[str, Mapping[str, float]]) -> float:
        """Computes the score.

        Args:
            metrics: The metrics of each split, by the split's name.
        """
        return self._evaluate(self._tree, [metrics[task][metric] for task, metric in self.metrics])

    def check(self, available: Mapping[str, Sequence[str]]) -> None:
        """Checks that all metrics of the score are computed.

        Args:
            available: Names of the metrics of each split, by the split's name.

        Raises:
            UserError: If a task or one of its metrics is not available.
        """
        for task, metric in self.metrics:
            where = f"score {self.text!r}"
            reject_unknown(where, "task", [task], available)
            reject_unknown(f"{where}: task {task!r}", "metric", [metric], available[task])

    def _placeholder(self, match: re.Match[str]) -> str:
        self.metrics.append((match[1], match[2]))
        return f"metric[{len(self.metrics) - 1}]"

    def _evaluate(self, node: ast.AST, values: Sequence[float]) -> float:
        match node:
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](
                    self._evaluate(left, values), self._evaluate(right, values)
                )
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._evaluate(operand, values)
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Subscript(
                value=ast.Name(id="metric"), slice=ast.Constant(value=int() as index)
            ):
                return values[index]
        raise UserError(
            f"score {self.text!r}: write sums, products and quotients of numbers and of task.metric"
        )


_METRIC = r"([A-Za-z][\w/-]*)\.([a-z]\w*)"
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
