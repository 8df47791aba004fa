"""DynamoDB in memory, as far as the functions use it: small, exact, and strict.

Its items are values: a write answers the items as they are after it, and changes none. So a test can look at a table
before and after each write, and go on from any of them as often as it likes. Whatever is not understood raises
``NotUnderstood``. ``test_interleavings.py`` holds it against moto.
"""

# Parameters are named as AWS names them.
# ruff: noqa: N803

from __future__ import annotations

import base64
import functools
import itertools
import json
import re
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from botocore import xform_name
from botocore.exceptions import ClientError, ParamValidationError
from botocore.session import get_session
from botocore.validate import ParamValidator

from headgate.rollouts.locks import HELD_LOCKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Key = tuple[str, str]
Items = dict[Key, str]
"""The table's items by pk and sk, each as JSON text of DynamoDB's attribute values. Never changed in place."""
Item = dict[str, Any]
Answer = dict[str, Any]

INDEXES = {HELD_LOCKS: ("held", "pk", ("pk", "sk", "held", "owner"))}
"""Hash key, range key and attributes of each index, as the template has them."""

_TOKEN = re.compile(r"\s*(<=|>=|<>|[=<>(),]|[:#]?[A-Za-z_][A-Za-z0-9_]*(?:\.#?[A-Za-z_][A-Za-z0-9_]*)*)")
_WORDS = {"AND", "OR", "IN", "SET", "REMOVE", "ADD", "NOT", "BETWEEN", "DELETE"}


class NotUnderstood(Exception):  # noqa: N818
    """Something that this table does not know, or that DynamoDB would not take."""


class Refused(Exception):  # noqa: N818
    """A call that DynamoDB answers with an error."""

    def __init__(self, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.answer: Answer = {"Error": {"Code": code, "Message": message}, **more}


# --- The client ------------------------------------------------------------------------------------------------------


class MemoryClient:
    """The calls of a DynamoDB client, each carried out by a function of its operation and parameters."""

    def __init__(self, carry_out: Callable[[str, dict[str, Any]], Answer]) -> None:
        self._carry_out = carry_out

    def get_item(self, **call: Any) -> Answer:
        return self._call("get_item", call)

    def query(self, **call: Any) -> Answer:
        return self._call("query", call)

    def batch_get_item(self, **call: Any) -> Answer:
        return self._call("batch_get_item", call)

    def put_item(self, **call: Any) -> Answer:
        return self._call("put_item", call)

    def update_item(self, **call: Any) -> Answer:
        return self._call("update_item", call)

    def transact_write_items(self, **call: Any) -> Answer:
        return self._call("transact_write_items", call)

    def get_paginator(self, operation: str) -> MemoryClient:
        if operation != "query":
            raise NotUnderstood(operation)
        return self

    def paginate(self, **call: Any) -> Iterator[Answer]:
        """One query for each page, made when the page is asked for."""
        start: dict[str, Any] = {}
        while True:
            page = self.query(**call, **start)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _call(self, operation: str, call: dict[str, Any]) -> Answer:
        answer = self._carry_out(operation, call)
        if "Error" in answer:
            raise ClientError(answer, operation)  # type: ignore[arg-type]
        return answer


class MemoryTable(MemoryClient):
    """A client with a table of its own, for any number of threads."""

    def __init__(self, items: Items | None = None) -> None:
        super().__init__(self._apply)
        self.items: Items = items or {}
        self._lock = threading.Lock()

    def all(self) -> list[Item]:
        """Every item."""
        return list(map(_loaded, self.items.values()))

    def _apply(self, operation: str, call: dict[str, Any]) -> Answer:
        with self._lock:
            self.items, answer = apply(self.items, operation, call)
        return answer


class ModelledTable(MemoryTable):
    """A table that takes no parameter that boto3 would not send."""

    def _call(self, operation: str, call: dict[str, Any]) -> Answer:
        report = _validator.validate(call, _input_shapes()[operation])
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())
        return super()._call(operation, call)


_validator = ParamValidator()


@functools.cache
def _input_shapes() -> dict[str, Any]:
    model = get_session().get_service_model("dynamodb")
    return {xform_name(name): model.operation_model(name).input_shape for name in model.operation_names}


def apply(items: Items, operation: str, call: dict[str, Any]) -> tuple[Items, Answer]:
    """Carry out one call: the items after it and the answer, which has an ``Error`` if DynamoDB refuses."""
    try:
        return _OPERATIONS[operation](items, **call)
    except Refused as refused:
        return items, refused.answer


# --- The operations --------------------------------------------------------------------------------------------------


def _get_item(items: Items, TableName: str, Key: Item, ConsistentRead: bool) -> tuple[Items, Answer]:
    if ConsistentRead is not True:
        raise NotUnderstood("a read that may be late")
    text = items.get(_key_of(Key, only=True))
    return items, {} if text is None else {"Item": _loaded(text)}


def _batch_get_item(items: Items, RequestItems: dict[str, Any]) -> tuple[Items, Answer]:
    ((table, asked),) = RequestItems.items()
    if asked.pop("ConsistentRead", False) is not True or set(asked) != {"Keys"} or len(asked["Keys"]) > 100:
        raise NotUnderstood("a read that may be late, or anything but up to 100 keys")
    keys = [_key_of(key, only=True) for key in asked["Keys"]]
    if len(set(keys)) < len(keys):
        raise NotUnderstood("the same key twice in one batch")
    return items, {"Responses": {table: [_loaded(items[key]) for key in keys if key in items]}, "UnprocessedKeys": {}}


def _query(
    items: Items,
    TableName: str,
    KeyConditionExpression: str,
    ExpressionAttributeValues: Item,
    IndexName: str | None = None,
    ConsistentRead: bool = False,
    Limit: int | None = None,
    ExclusiveStartKey: Item | None = None,
    ScanIndexForward: bool = True,
) -> tuple[Items, Answer]:
    if ConsistentRead == (IndexName is not None):
        raise NotUnderstood("a consistent read of an index, or a late one of the table")
    hash_key, range_key, kept = INDEXES[IndexName] if IndexName else ("pk", "sk", ())
    names, found = _Names({}, ExpressionAttributeValues), []
    condition = _KeyCondition(KeyConditionExpression, names, hash_key, range_key)
    names.all_used()
    for key, text in items.items():
        if not IndexName and not condition.may_hold(key):
            continue
        item = _loaded(text)
        if hash_key in item and range_key in item and condition.holds(item):
            found.append({name: value for name, value in item.items() if not kept or name in kept})
    found.sort(key=lambda item: _order(item[range_key]), reverse=not ScanIndexForward)
    if ExclusiveStartKey:
        start = _order(ExclusiveStartKey[range_key])
        orders = ((item, _order(item[range_key])) for item in found)
        found = [item for item, order in orders if (order > start if ScanIndexForward else order < start)]
    if Limit is None or len(found) < Limit:
        return items, {"Items": found}
    last = found[Limit - 1]
    return items, {
        "Items": found[:Limit],
        "LastEvaluatedKey": {name: last[name] for name in sorted({"pk", "sk", hash_key, range_key})},
    }


def _put_item(items: Items, **put: Any) -> tuple[Items, Answer]:
    write = _write_of("Put", put)
    before = _allowed(write, items)
    return _with(items, {write.key: write.effect(before)}), {}


def _update_item(items: Items, ReturnValues: str = "NONE", **update: Any) -> tuple[Items, Answer]:
    if ReturnValues not in ("NONE", "ALL_NEW"):
        raise NotUnderstood(f"ReturnValues {ReturnValues}")
    write = _write_of("Update", update)
    before = _allowed(write, items)
    try:
        after = write.effect(before)
    except _BadPath as bad:
        raise Refused("ValidationException", str(bad)) from None
    return _with(items, {write.key: after}), {"Attributes": after} if ReturnValues == "ALL_NEW" else {}


def _allowed(write: _Write, items: Items) -> Item:
    """The item that may be written, as it is before."""
    before = _item(items, write.key)
    if not write.allowed(before):
        raise Refused("ConditionalCheckFailedException", "The conditional request failed")
    return before


def _transact_write_items(items: Items, TransactItems: Sequence[dict[str, Any]]) -> tuple[Items, Answer]:
    if not 1 <= len(TransactItems) <= 100 or any(len(write) != 1 for write in TransactItems):
        raise NotUnderstood(f"a transaction of {len(TransactItems)} writes")
    writes = [_write_of(kind, dict(call)) for write in TransactItems for kind, call in write.items()]
    if len({write.key for write in writes}) < len(writes):
        raise NotUnderstood("two writes of one item in one transaction")
    # Every condition is held against the table as it was before the transaction.
    reasons, changes = [], {}
    for write in writes:
        before = _item(items, write.key)
        reason = "None" if write.allowed(before) else "ConditionalCheckFailed"
        if reason == "None" and write.changes:
            try:
                changes[write.key] = write.effect(before)
            except _BadPath as bad:
                raise NotUnderstood(f"in a transaction: {bad}") from None
        reasons.append(reason)
    if set(reasons) != {"None"}:
        told = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(reasons)}]"
        raise Refused(
            "TransactionCanceledException", told, CancellationReasons=[{"Code": reason} for reason in reasons]
        )
    return _with(items, changes), {}


_OPERATIONS: dict[str, Callable[..., tuple[Items, Answer]]] = {
    "get_item": _get_item,
    "batch_get_item": _batch_get_item,
    "put_item": _put_item,
    "query": _query,
    "update_item": _update_item,
    "transact_write_items": _transact_write_items,
}


class _Write:
    """One write of one item: whether it may be made, and what it leaves of the item (None: nothing)."""

    def __init__(self, key: Key, allowed: Callable[[Item], bool], effect: Callable[[Item], Item | None] | None) -> None:
        self.key, self.allowed, self.changes = key, allowed, effect is not None
        self._effect = effect

    def effect(self, before: Item) -> Item | None:
        assert self._effect is not None
        return self._effect(before)


def _write_of(kind: str, call: dict[str, Any]) -> _Write:
    """A Put, Update, Delete or ConditionCheck; every name and every value that it gives is used."""
    call.pop("TableName")
    names = _Names(call.pop("ExpressionAttributeNames", {}), call.pop("ExpressionAttributeValues", {}))
    condition = call.pop("ConditionExpression", None)
    allowed = _Condition(condition, names).holds if condition else _always
    effect: Callable[[Item], Item | None] | None = None
    if kind == "Put":
        item = {name: _exact(value) for name, value in call.pop("Item").items()}
        key, effect = _key_of(item), lambda _: item
    else:
        key = _key_of(call.pop("Key"), only=True)
        if kind == "Update":
            effect = functools.partial(_Update(call.pop("UpdateExpression"), names).of, key)
        elif kind == "Delete":
            effect = _nothing
        elif kind != "ConditionCheck":
            raise NotUnderstood(kind)
    if call:
        raise NotUnderstood(f"{kind} with {', '.join(call)}")
    names.all_used()
    return _Write(key, allowed, effect)


def _always(_: Item) -> bool:
    return True


def _nothing(_: Item) -> None:
    return None


def _item(items: Items, key: Key) -> Item:
    """The item of a key; without attributes if there is none."""
    text = items.get(key)
    return _loaded(text) if text is not None else {}


def _with(items: Items, changes: Mapping[Key, Item | None]) -> Items:
    after = dict(items)
    for key, item in changes.items():
        if item is None:
            after.pop(key, None)
        else:
            after[key] = text_of(item)
    return after


def text_of(data: Any) -> str:
    """JSON that is the same for the same data; bytes are text in it, as in DynamoDB's own JSON."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), default=lambda held: base64.b64encode(held).decode())


def _loaded(text: str) -> Item:
    """The item of a text."""
    item: Item = json.loads(text)
    return item if '{"B":' not in text else {name: _with_bytes(value) for name, value in item.items()}


def _with_bytes(value: Item) -> Item:
    ((kind, held),) = value.items()
    if kind == "B":
        return {"B": base64.b64decode(held)}
    if kind == "L":
        return {"L": [_with_bytes(element) for element in held]}
    if kind == "M":
        return {"M": {name: _with_bytes(element) for name, element in held.items()}}
    return value


def _key_of(item: Item, *, only: bool = False) -> Key:
    if only and set(item) != {"pk", "sk"}:
        raise NotUnderstood(f"a key of {', '.join(item)}")
    return item["pk"]["S"], item["sk"]["S"]


# --- Values ----------------------------------------------------------------------------------------------------------


def _exact(value: Item) -> Item:
    """An attribute value as DynamoDB keeps it: each number in one spelling."""
    ((kind, held),) = value.items()
    if kind in ("S", "B", "BOOL", "NULL"):
        return value
    if kind == "N":
        return {"N": _spelled(Decimal(held))}
    if kind == "L":
        return {"L": [_exact(element) for element in held]}
    if kind == "M":
        return {"M": {name: _exact(element) for name, element in held.items()}}
    raise NotUnderstood(f"a value of type {kind}")


def _spelled(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _order(value: Item) -> Any:
    """What a value is sorted by among others of its type."""
    ((kind, held),) = value.items()
    if kind == "S":
        return held.encode()
    if kind == "N":
        return Decimal(held)
    raise NotUnderstood(f"the order of values of type {kind}")


def _compare(left: Item | None, operator: str, right: Item | None) -> bool:
    """A comparison. What is missing is unequal to everything, and neither less nor more."""
    if operator in ("=", "<>"):
        same = left is not None and right is not None and _exact(left) == _exact(right)
        return same == (operator == "=")
    if left is None or right is None or set(left) != set(right):
        return False
    one, other = _order(left), _order(right)
    return bool({"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[operator])


# --- Expressions -----------------------------------------------------------------------------------------------------


class _Names:
    """The names and values that a call gives for its expressions; DynamoDB refuses one that none of them uses."""

    def __init__(self, names: dict[str, str], values: Item) -> None:
        self._names, self._values = names, {name: _exact(value) for name, value in values.items()}
        self._used: set[str] = set()

    def name(self, word: str) -> str:
        if not word.startswith("#"):
            return word
        self._used.add(word)
        return self._names[word]

    def value(self, word: str) -> Item:
        self._used.add(word)
        return self._values[word]

    def all_used(self) -> None:
        if unused := ({*self._names, *self._values} - self._used):
            raise NotUnderstood(f"given and not used: {', '.join(sorted(unused))}")


class _Parser:
    """Words of an expression, read from left to right."""

    def __init__(self, expression: str, names: _Names) -> None:
        self._expression, self.names = expression, names
        self._words: list[str] = []
        at = 0
        while expression[at:].strip():
            match = _TOKEN.match(expression, at)
            if match is None:
                self.fail()
            self._words.append(match[1])
            at = match.end()

    def fail(self) -> NoReturn:
        raise NotUnderstood(self._expression)

    def next(self) -> str:
        return self._words[0] if self._words else ""

    def take(self, *wanted: str) -> str:
        """The next word, which is one of these if any are given."""
        if not self._words or (wanted and self._words[0] not in wanted):
            self.fail()
        return self._words.pop(0)

    def took(self, wanted: str) -> bool:
        return self.next() == wanted and bool(self.take())

    def path(self) -> tuple[str, ...]:
        """The names that lead to an attribute."""
        word = self.take()
        if word in _WORDS or not re.match(r"[#A-Za-z_]", word):
            self.fail()
        return tuple(self.names.name(part) for part in word.split("."))

    def operand(self) -> Callable[[Item], Item | None]:
        if self.next().startswith(":"):
            value = self.names.value(self.take())
            return lambda _: value
        if self.took("size"):
            self.take("(")
            path = self.path()
            self.take(")")
            return lambda item: _size(_at(item, path))
        path = self.path()
        return lambda item: _at(item, path)

    def end(self) -> None:
        if self._words:
            self.fail()


class _Condition(_Parser):
    """A condition expression."""

    def __init__(self, expression: str, names: _Names) -> None:
        super().__init__(expression, names)
        self.holds = self._any()
        self.end()

    def _any(self) -> Callable[[Item], bool]:
        parts = [self._all()]
        while self.took("OR"):
            parts.append(self._all())
        return lambda item: any(part(item) for part in parts)

    def _all(self) -> Callable[[Item], bool]:
        parts = [self._one()]
        while self.took("AND"):
            parts.append(self._one())
        return lambda item: all(part(item) for part in parts)

    def _one(self) -> Callable[[Item], bool]:
        if self.took("("):
            inner = self._any()
            self.take(")")
            return inner
        if self.next() in ("attribute_exists", "attribute_not_exists"):
            wanted = self.take() == "attribute_exists"
            self.take("(")
            path = self.path()
            self.take(")")
            return lambda item: (_at(item, path) is not None) == wanted
        left = self.operand()
        if self.took("IN"):
            self.take("(")
            choices = [self.operand()]
            while self.took(","):
                choices.append(self.operand())
            self.take(")")
            return lambda item: any(_compare(left(item), "=", choice(item)) for choice in choices)
        operator = self.take("=", "<>", "<", "<=", ">", ">=")
        right = self.operand()
        return lambda item: _compare(left(item), operator, right(item))


class _KeyCondition(_Parser):
    """A key condition: the hash key's value, and how the range key begins if that is asked."""

    def __init__(self, expression: str, names: _Names, hash_key: str, range_key: str) -> None:
        super().__init__(expression, names)
        self._hash_key, self._range_key, self._begins = hash_key, range_key, ""
        self.take(hash_key)
        self.take("=")
        self._hash = names.value(self.take())
        if self.took("AND"):
            for word in ("begins_with", "(", range_key, ","):
                self.take(word)
            self._begins = names.value(self.take())["S"]
            self.take(")")
        self.end()

    def may_hold(self, key: Key) -> bool:
        """Whether an item of the table itself, by its key, is worth reading."""
        return bool(key[0] == self._hash["S"])

    def holds(self, item: Item) -> bool:
        return bool(item[self._hash_key] == self._hash and item[self._range_key]["S"].startswith(self._begins))


class _BadPath(Exception):  # noqa: N818
    """A path through something that is not there."""


class _Update(_Parser):
    """An update expression. Its operands are of the item as it was before."""

    def __init__(self, expression: str, names: _Names) -> None:
        super().__init__(expression, names)
        self._changes: list[tuple[tuple[str, ...], Callable[[Item], Item | None]]] = []
        clauses = {"SET": self._set, "REMOVE": self._remove, "ADD": self._add}
        while self.next():
            clause = clauses.pop(self.take(*clauses))  # Each may come once.
            clause()
            while self.took(","):
                clause()
        paths = sorted(path for path, _ in self._changes)
        if any(other[: len(path)] == path for path, other in itertools.pairwise(paths)):
            self.fail()

    def of(self, key: Key, before: Item) -> Item:
        """The item after it; a new one where there was none."""
        after = _loaded(text_of(before)) if before else {"pk": {"S": key[0]}, "sk": {"S": key[1]}}
        for path, value in self._changes:
            _put(after, path, value(before))
        return after

    def _set(self) -> None:
        path = self.path()
        self.take("=")
        if self.took("if_not_exists"):
            self.take("(")
            known = self.operand()
            self.take(",")
            other = self.operand()
            self.take(")")
            self._changes.append((path, lambda item: _there(known(item) or other(item))))
            return
        value = self.operand()
        self._changes.append((path, lambda item: _there(value(item))))

    def _remove(self) -> None:
        self._changes.append((self.path(), _nothing))

    def _add(self) -> None:
        path, value = self.path(), self.names.value(self.take())
        self._changes.append((path, lambda item: _sum(_at(item, path) or {"N": "0"}, value)))


def _at(item: Item, path: tuple[str, ...]) -> Item | None:
    """The value at a path."""
    value: Item | None = item.get(path[0])
    for name in path[1:]:
        value = value["M"].get(name) if value is not None and "M" in value else None
    return value


def _put(item: Item, path: tuple[str, ...], value: Item | None) -> None:
    """Set the value at a path, or remove it."""
    if len(path) > 1:
        holder = _at(item, path[:-1])
        if holder is None or "M" not in holder:
            raise _BadPath("The document path provided in the update expression is invalid for update")
        item = holder["M"]
    if value is None:
        item.pop(path[-1], None)
    else:
        item[path[-1]] = value


def _there(value: Item | None) -> Item:
    if value is None:
        raise _BadPath("The provided expression refers to an attribute that does not exist in the item")
    return value


def _sum(one: Item, other: Item) -> Item:
    if set(one) | set(other) != {"N"}:
        raise NotUnderstood("ADD of anything but numbers")
    return {"N": _spelled(Decimal(one["N"]) + Decimal(other["N"]))}


def _size(value: Item | None) -> Item | None:
    """Of a text its UTF-8 bytes, of a list or a map its elements; nothing else has a size here."""
    if value is None:
        return None
    ((kind, held),) = value.items()
    if kind not in ("S", "L", "M"):
        raise NotUnderstood(f"the size of a value of type {kind}")
    return {"N": str(len(held.encode() if kind == "S" else held))}
