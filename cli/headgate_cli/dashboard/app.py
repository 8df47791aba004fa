"""The dashboard as an application of Flask: one page, its data, and the two requests that change something."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from headgate.errors import RequestRefused
from headgate.ids import is_rollout_id
from headgate.rollouts.record import Status
from headgate.spec.signal_models import OperatorSignal
from headgate_cli.dashboard.gate import ENTRY, HEADERS, PAGE_POLICY, REPORT_POLICY
from headgate_cli.dashboard.trouble import trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.typing import ResponseReturnValue

    from headgate.history.model import RolloutView
    from headgate_cli.dashboard.board import Board
    from headgate_cli.dashboard.gate import Gate
    from headgate_cli.dashboard.steering import Result, Steering
    from headgate_cli.rollouts import History

PAGE_ROWS = 25
"""Rollouts on a page of the history."""

MAX_BODY = 16 * 1024

MAX_REASON = 1000
"""Characters of a reason; Headgate keeps as many bytes."""

STATUSES: tuple[Status, ...] = tuple(status for group in get_args(Status) for status in get_args(group))

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z")


class About(NamedTuple):
    """What the page says of the installation."""

    stack: str
    region: str


class BadInputError(Exception):
    """A field of a request is wrong. The message names it."""


class Parts(NamedTuple):
    """What the dashboard is made of."""

    records: History
    board: Board
    steering: Steering
    gate: Gate
    about: About
    report: Callable[[RolloutView], str]
    """Renders a rollout's report, a page of its own."""
    target_key: Callable[[str], str | None]
    """Returns the key of a target that a person names; None if it names none."""


def create_app(parts: Parts) -> Flask:
    """Return the application."""
    # Flask looks for the templates and static files beside this module.
    app = Flask(__name__, static_url_path="/static")
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, PROVIDE_AUTOMATIC_OPTIONS=False)
    _guard(app, parts.gate)
    _add_pages(app, parts)
    _add_data(app, parts)
    _add_changes(app, parts)
    _explain_failures(app)
    return app


def _guard(app: Flask, gate: Gate) -> None:
    @app.before_request
    def refuse_strangers() -> ResponseReturnValue | None:
        refusal = gate.refusal(request)
        return None if refusal is None else _failed(403, refusal)

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        response.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
        return response


def _add_pages(app: Flask, parts: Parts) -> None:
    # Everybody may read these: what they show comes from the requests of their scripts.
    @app.get("/")
    def page() -> ResponseReturnValue:
        return render_template("page.html", statuses=STATUSES)

    @app.get("/report")
    def report_page() -> ResponseReturnValue:
        response = Response(render_template("report.html"), mimetype="text/html")
        response.headers["Content-Security-Policy"] = REPORT_POLICY
        return response

    @app.post(ENTRY)
    def enter() -> ResponseReturnValue:
        session = parts.gate.session(request)
        if session is None:
            return _failed(403, "the token of this URL is used or wrong; open the URL that headgate dashboard printed")
        return jsonify({"session": session})


def _add_data(app: Flask, parts: Parts) -> None:
    @app.get("/api/about")
    def about() -> ResponseReturnValue:
        return jsonify(parts.about._asdict())

    @app.get("/api/report")
    def report() -> ResponseReturnValue:
        rollout_id = request.args.get("id", "")
        view = parts.records.rollout(rollout_id) if is_rollout_id(rollout_id) else None
        if view is None:
            return _failed(404, f"there is no rollout {rollout_id!r} on record")
        return jsonify({"id": view.id, "html": parts.report(view)})

    @app.get("/api/now")
    def now() -> ResponseReturnValue:
        return jsonify(parts.board.now())

    @app.get("/api/rollouts")
    def past() -> ResponseReturnValue:
        query = _query_of(request.args, parts.target_key)
        return jsonify(parts.records.rollouts(**query, limit=PAGE_ROWS).to_wire())


def _add_changes(app: Flask, parts: Parts) -> None:
    def told(result: Result) -> Response:
        parts.board.expire()
        return jsonify({"effect": result.effect, "text": result.text, "rolloutId": result.rollout_id})

    @app.post("/api/signal")
    def send_signal() -> ResponseReturnValue:
        body = _body()
        signal = _signal_in(body)
        reason = body.get("reason", "")
        if not isinstance(reason, str) or len(reason) > MAX_REASON or not _is_text(reason):
            raise BadInputError(f"reason: must be a text of at most {MAX_REASON:,} characters")
        return told(parts.steering.signal(_id_in(body), signal, reason))

    @app.post("/api/undo")
    def send_undo() -> ResponseReturnValue:
        return told(parts.steering.undo(_id_in(_body())))


def _explain_failures(app: Flask) -> None:
    # The read model refuses a page token that it cannot read.
    @app.errorhandler(RequestRefused)
    @app.errorhandler(BadInputError)
    def bad_input(error: Exception) -> ResponseReturnValue:
        return _failed(400, str(error))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> ResponseReturnValue:
        # Flask's own errors: no such page, a wrong method, a body that is no JSON or too long.
        if isinstance(error, HTTPException) and error.code:
            return _failed(error.code, str(error.description))
        return _failed(502, trouble(error))


def _query_of(given: Any, target_key: Callable[[str], str | None]) -> dict[str, Any]:
    """Return the parameters of the read model for a search."""
    query: dict[str, Any] = {}
    if target := given.get("target", "").strip():
        query["target"] = target_key(target) or _wrong(
            "target: must be a function and alias as checkout:live, a cluster and service as web/shop, a mapping's "
            f"UUID, or a key (given {target!r})"
        )
    if state := given.get("state"):
        query["states"] = (state,) if state in STATUSES else _wrong(f"state: must be one of {', '.join(STATUSES)}")
    for name in ("since", "until"):
        if at := given.get(name):
            query[name] = at if _TIME.fullmatch(at) else _wrong(f"{name}: must be like 2026-11-30T14:05:00.000Z")
    if after := given.get("after"):
        query["after"] = after
    return query


def _wrong(message: str) -> Any:
    raise BadInputError(message)


def _body() -> dict[str, Any]:
    try:
        body = request.get_json()
    except RecursionError:
        raise BadInputError("the body: must be a JSON object that is not nested so deeply") from None
    if not isinstance(body, dict):
        raise BadInputError("the body: must be a JSON object")
    return body


def _is_text(given: str) -> bool:
    """Return whether all of it are characters. JSON may have halves of them, which nothing can send."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def _id_in(body: dict[str, Any]) -> str:
    rollout_id = body.get("id")
    if not is_rollout_id(rollout_id):
        raise BadInputError(f"id: must be the id of a rollout (given {rollout_id!r})")
    return rollout_id


def _signal_in(body: dict[str, Any]) -> OperatorSignal:
    for signal in get_args(OperatorSignal):
        if signal == body.get("signal"):
            return cast("OperatorSignal", signal)
    kinds = ", ".join(get_args(OperatorSignal))
    raise BadInputError(f"signal: must be one of {kinds} (given {body.get('signal')!r})")


def _failed(status: int, text: str) -> Response:
    """Answer with an error: as JSON for the page's script, else as text for a person."""
    if request.path.startswith("/api/"):
        response = jsonify({"error": text})
    else:
        response = Response(f"{text}\n", mimetype="text/plain")
    response.status_code = status
    return response
