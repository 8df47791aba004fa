"""GetMetricData with trimmed counts and metric math.

On AWS, "TC(800:)" counts the values above 800 and at most the upper bound, an expression is evaluated minute by minute
with 0 for missing values, the newest value comes first, and an invalid query (or more than 500, or a duplicate id)
fails the whole call. MiniStack returns the average for a trimmed count and InternalError for an expression, the oldest
value comes first, and it refuses nothing.

Seams: `cloudwatch._stat_value` supports trimmed counts here, `cloudwatch._get_metric_data` reads only the metrics, and
expressions are evaluated here. Simpler than AWS: an expression has + - * / and parentheses, FILL with a number, SUM,
MIN and MAX; others are refused. Not filled: a metric without dimensions is still the sum of all with its name.
"""

import ast
import json
import operator
import re
from collections.abc import Callable
from typing import Any

from ministack.services import cloudwatch

from emulator.gaps import seams

GAP = "metric_data"
MOST_QUERIES = 500
_TRIMMED_COUNT = re.compile(r"TC\((\d*\.?\d*):(\d*\.?\d*)\)")
_STATISTIC = re.compile(
    r"SampleCount|Sum|Average|Minimum|Maximum|IQM|(p|tm|wm|tc|ts)\d+(\.\d+)?|(TM|WM|TC|TS|PR)\([\d.]*%?:[\d.]*%?\)"
)
_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {"SUM": lambda *values: sum(values), "MIN": min, "MAX": max}
Series = dict[int, float]
"""Values by seconds since 1970."""


class _UnreadableError(ValueError):
    """A query that fails the call."""


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, cloudwatch, "_stat_value", "stats, stat_name, points", _stat_value)
    seams.wrap(GAP, cloudwatch, "_get_metric_data", "params, cbor_data, is_cbor, is_json", _get_metric_data)
    for name, parameters in (("_percentile_samples", "points"), ("_json_ok", "data"), ("_cbor_ok", "data")):
        seams.expect(GAP, cloudwatch, name, parameters)
    seams.expect(GAP, cloudwatch, "_cbor_metric_data_result", "result")
    seams.expect(GAP, cloudwatch, "_error", "code, message, status, use_json, use_cbor")


def _stat_value(original: Callable[..., Any], stats: Any, stat_name: str, points: Any = None) -> Any:
    bounds = _TRIMMED_COUNT.fullmatch(stat_name or "")
    if bounds is None:
        return original(stats, stat_name, points)
    samples = cloudwatch._percentile_samples(points or [])
    low, high = float(bounds[1] or "-inf"), float(bounds[2] or "inf")
    return None if samples is None else sum(count for value, count in samples if low < value <= high)


def _get_metric_data(
    original: Callable[..., Any], params: Any, data: dict[str, Any], is_cbor: bool, is_json: bool = False
) -> Any:
    if not (is_cbor or is_json):
        return original(params, data, is_cbor, is_json)  # The query protocol, which no client uses here.
    queries = data.get("MetricDataQueries", [])
    try:
        _check(queries)
        start = int(cloudwatch._parse_ts(data["StartTime"])) // 60 * 60
        end = int(cloudwatch._parse_ts(data["EndTime"]))
        metrics = [query | {"ReturnData": True} for query in queries if not query.get("Expression")]
        _, _, body = original({}, {**data, "MetricDataQueries": metrics, "StartTime": start}, False, True)
        series = {
            result["Id"]: dict(zip(result["Timestamps"], result["Values"], strict=True))
            for result in json.loads(body)["MetricDataResults"]
        }
        math = _Math(series, {query["Id"]: query["Expression"] for query in queries if query.get("Expression")})
        math.range = range(start, end, 60)
        newest_first = data.get("ScanBy", "TimestampDescending") == "TimestampDescending"
        results = [
            _result(query, math.series(query["Id"]), newest_first) for query in queries if query.get("ReturnData", True)
        ]
    except _UnreadableError as error:
        return cloudwatch._error("ValidationError", str(error), 400, is_json, is_cbor)
    if is_cbor:
        return cloudwatch._cbor_ok(
            {"MetricDataResults": [cloudwatch._cbor_metric_data_result(result) for result in results]}
        )
    return cloudwatch._json_ok({"MetricDataResults": results})


def _check(queries: list[dict[str, Any]]) -> None:
    if len(queries) > MOST_QUERIES:
        raise _UnreadableError(f"The collection MetricDataQueries must not have a size greater than {MOST_QUERIES}.")
    if len({query["Id"] for query in queries}) < len(queries):
        raise _UnreadableError("The values for parameter id in MetricDataQueries are not unique.")
    for number, query in enumerate(queries, start=1):
        if not _STATISTIC.fullmatch(statistic := query.get("MetricStat", {}).get("Stat", "Sum")):
            where = f"MetricDataQueries.member.{number}.MetricStat.Stat"
            raise _UnreadableError(f"The value {statistic} for parameter {where} is not a valid statistic.")


def _result(query: dict[str, Any], series: Series, newest_first: bool) -> dict[str, Any]:
    stamps = sorted(series, reverse=newest_first)
    return {
        "Id": query["Id"],
        "Label": query.get("Label", query["Id"]),
        "Timestamps": [cloudwatch._ts_iso(stamp) for stamp in stamps],
        "Values": [series[stamp] for stamp in stamps],
        "StatusCode": "Complete",
    }


class _Math:
    """Evaluates expressions, which may use the ids of others."""

    def __init__(self, known: dict[str, Series], expressions: dict[str, str]) -> None:
        self._known, self._expressions = known, expressions
        self.range = range(0)

    def series(self, query_id: str) -> Series:
        """Return the values of a query."""
        if query_id not in self._known:
            expression = self._expressions.pop(query_id, None)
            if expression is None:
                raise _UnreadableError(f"Error in expression: {query_id} is not known")
            try:
                value = self._value(ast.parse(expression.strip(), mode="eval").body)
            except SyntaxError:
                raise _UnreadableError(f"Error in expression '{query_id}': Syntax error: {expression}") from None
            if not isinstance(value, dict):
                raise _UnreadableError(f"Error in expression '{query_id}': it does not return a time series")
            self._known[query_id] = value
        return self._known[query_id]

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                return self.series(name)
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.List(elts=elements):
                return [self._value(element) for element in elements]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _each(operator.sub, 0.0, self._value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _each(_OPERATORS[type(op)], self._value(left), self._value(right))
            case ast.Call(func=ast.Name(id="FILL"), args=[filled, ast.Constant(value=int() | float() as number)]):
                series = self._value(filled)
                return {stamp: series.get(stamp, float(number)) for stamp in self.range}
            case ast.Call(func=ast.Name(id=name), args=[ast.List(elts=elements)]) if name in _FUNCTIONS:
                return _each(_FUNCTIONS[name], *(self._value(element) for element in elements))
        raise _UnreadableError(f"Error in expression: {ast.unparse(node)} is not supported")


def _each(work: Callable[..., float], *values: Any) -> Any:
    """Apply an operation to numbers, or minute by minute to series."""
    series = [value for value in values if isinstance(value, dict)]
    if not series:
        return work(*values)
    result: Series = {}
    for stamp in set.union(*(set(each) for each in series)):
        try:
            result[stamp] = work(*(value.get(stamp, 0.0) if isinstance(value, dict) else value for value in values))
        except ZeroDivisionError:
            continue
    return result
