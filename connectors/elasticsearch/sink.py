"""`sink.elasticsearch`: documents by the bulk API, told apart by their ids.

Within one bulk call an id comes once, so that a document that is not taken yet is never overtaken by a
later one of its id. Where a document is replaced as a whole, the last of an id stands for those before
it; they are sent only if it is refused for good.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import httpx
import orjson

from connectors.cloudevents import structured
from connectors.contracts import Check, Outgoing, SinkOpening, SinkTraits
from connectors.elasticsearch.actions import Action, error_of_item, make_action, version_of
from connectors.elasticsearch.settings import ElasticsearchSink as ElasticsearchSinkSettings
from connectors.errors import FatalError, PenstockError, PermanentError, RetryableError
from connectors.rendering import EventTemplate
from connectors.webhook.answers import origin_of, retry_after

_NDJSON = {"content-type": "application/x-ndjson"}
_REPLACES = {"index", "merge", "delete"}
"""Operations after which nothing is left of what the document was before."""


class ElasticsearchSink:
    """The sink. Requests are made on the dataflow's thread."""

    def __init__(self, name: str, settings: ElasticsearchSinkSettings) -> None:
        self._name = name
        self._settings = settings
        self.traits = SinkTraits(ordered=True, delivery="at_least_once", embeds=True)
        self._index: EventTemplate
        self._id: EventTemplate | None = None
        self._routing: EventTemplate | None = None
        self._client: httpx.Client | None = None
        self._node = 0

    def preflight(self, topics: Sequence[str]) -> Iterable[Check]:  # noqa: ARG002 - it has none
        """Ask each node who it is, and for the index; write nothing."""
        try:
            client = self._make_client()
        except FatalError as error:
            yield Check("tls", ok=False, found=error.message, hint=error.hint)
            return
        with client:
            for url in self._settings.urls:
                yield self._node_check(client, url)
            index = self._settings.index
            if "{{" not in index:
                try:
                    status = client.head(
                        f"{self._settings.urls[0].rstrip('/')}/{index}"
                    ).status_code
                except httpx.HTTPError:
                    return
                found = (
                    "there" if status == 200 else "not there, will be made if the cluster lets it"
                )
                yield Check(f"index {index}", ok=True, found=found)

    def _node_check(self, client: httpx.Client, url: str) -> Check:
        origin = origin_of(url)
        try:
            answer = client.get(url)
        except httpx.HTTPError as error:
            failed = self._not_answered(url, error)
            away = isinstance(failed, RetryableError)
            return Check(origin, ok=False, found=failed.message, hint=failed.hint, unreachable=away)
        if answer.status_code in {401, 403}:
            hint = "Check username and password, or api_key."
            return Check(origin, ok=False, found=f"answered {answer.status_code}", hint=hint)
        try:
            version = answer.json()["version"]
            found = f"{version.get('distribution', 'elasticsearch')} {version['number']}"
        except (ValueError, KeyError, TypeError):
            hint = "Is it an Elasticsearch or OpenSearch node?"
            return Check(origin, ok=False, found=f"answered {answer.status_code}", hint=hint)
        return Check(origin, ok=True, found=found)

    def open(self, opening: SinkOpening) -> None:
        """Compile the templates; see that a node answers. Raises FatalError."""
        settings = self._settings
        self._index = EventTemplate(settings.index, opening.compile_template)
        if settings.id is not None:
            self._id = EventTemplate(settings.id, opening.compile_template)
        if settings.routing is not None:
            self._routing = EventTemplate(settings.routing, opening.compile_template)
        self._client = client = self._make_client()
        failed: Check | None = None
        for place, url in enumerate(settings.urls):
            check = self._node_check(client, url)
            if check.ok:
                self._node = place
                return
            failed = check
        client.close()
        assert failed is not None  # noqa: S101 - the model wants a URL at least
        raise FatalError(
            f"no node of the cluster can be used: {failed.name} {failed.found}.",
            code="elasticsearch_refused",
            hint=failed.hint,
            unreachable=failed.unreachable,
        )

    def _make_client(self) -> httpx.Client:
        settings = self._settings
        try:
            tls = ssl.create_default_context(cafile=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise FatalError(
                f"the certificates of {settings.ca_file} can't be read: {error}.",
                code="elasticsearch_refused",
                hint="It must be a PEM file that this user can read.",
            ) from error
        headers = {"user-agent": "penstock"}
        auth = None
        if settings.api_key is not None:
            headers["authorization"] = f"ApiKey {settings.api_key}"
        elif settings.username is not None:
            auth = httpx.BasicAuth(settings.username, settings.password or "")
        return httpx.Client(
            headers=headers, auth=auth, verify=tls, timeout=settings.timeout, trust_env=False
        )

    def deliver(self, events: Outgoing) -> Mapping[int, PenstockError]:
        """Write the documents and wait until the cluster has answered for each."""
        if not len(events):
            return {}
        actions, failures = self._actions(events)
        replaces = self._settings.operation in _REPLACES
        chains: dict[object, list[Action]] = {}
        for action in actions:
            # The index is part of it: one id may be in several.
            chains.setdefault(self._chain_of(action), []).append(action)
        waiting = list(chains.values())
        while waiting:
            wave = [chain[-1] if replaces else chain[0] for chain in waiting]
            outcome = self._bulks(wave)
            left = []
            for chain, action in zip(waiting, wave, strict=True):
                error = outcome.get(action.place)
                rest = chain[:-1] if replaces else chain[1:]
                if error is not None:
                    failures[action.place] = error
                if error is not None and not isinstance(error, PermanentError):
                    failures.update(dict.fromkeys((other.place for other in rest), error))
                elif rest and not (replaces and error is None):
                    left.append(rest)
            waiting = left
        return failures

    def _chain_of(self, action: Action) -> object:
        if action.id is None:
            return action.place
        head = orjson.loads(action.lines[: action.lines.index(b"\n")])
        meta = next(iter(head.values()))
        return meta["_index"], action.id

    def _actions(self, events: Outgoing) -> tuple[list[Action], dict[int, PenstockError]]:
        settings = self._settings
        failures: dict[int, PenstockError] = {}
        metas: list[dict[str, Any]] = [{} for _ in range(len(events))]
        for name, template in (
            ("_index", self._index),
            ("_id", self._id),
            ("routing", self._routing),
        ):
            if template is None:
                continue
            groups, failed = template.group(events)
            failures |= failed
            for text, indexes in groups.items():
                for index in indexes:
                    metas[index][name] = text
        documents: Sequence[bytes | None] = events.values
        if settings.format == "cloudevents_json":
            documents = structured(events)
        attributes = (
            events.attributes() if settings.keep_newer or settings.operation == "merge" else {}
        )
        times, changes = attributes.get("time"), attributes.get("operation")
        made = []
        for place, document in enumerate(documents):
            if place in failures:
                continue
            meta = metas[place]
            change = changes[place] if isinstance(changes, list) else changes
            operation: str = settings.operation
            if operation == "merge" and (change == "DELETE" or events.values[place] is None):
                operation = "delete"
            try:
                if settings.keep_newer:
                    meta["version"] = version_of(times[place] if isinstance(times, list) else times)
                    meta["version_type"] = "external_gte"
                made.append(make_action(place, operation, meta, document))
            except PermanentError as error:
                failures[place] = error
        return made, failures

    def _bulks(self, actions: Sequence[Action]) -> dict[int, PenstockError]:
        """Send the actions, in as many calls as their sizes ask for."""
        failures: dict[int, PenstockError] = {}
        for share in self._shares(actions):
            outcome = self._bulk(share)
            failures.update(outcome)
        return failures

    def _shares(self, actions: Sequence[Action]) -> Iterator[list[Action]]:
        share: list[Action] = []
        size = 0
        for action in actions:
            full = len(share) >= self._settings.batch_size
            if share and (full or size + action.size > self._settings.batch_bytes):
                yield share
                share, size = [], 0
            share.append(action)
            size += action.size
        if share:
            yield share

    def _bulk(self, share: Sequence[Action]) -> dict[int, PenstockError]:
        """Send one call; halve it when the cluster can't read it, or finds it too large."""
        answer = self._ask(b"".join([action.lines for action in share]))
        if isinstance(answer, PenstockError):
            return dict.fromkeys((action.place for action in share), answer)
        if answer.status_code in {400, 413}:
            if len(share) == 1:
                return {share[0].place: self._refused(answer)}
            middle = len(share) // 2
            return {**self._bulk(share[:middle]), **self._bulk(share[middle:])}
        try:
            items = answer.json()["items"] if answer.status_code < 300 else None
        except (ValueError, KeyError, TypeError):
            items = None
        if items is None or len(items) != len(share):
            error = self._of_all(answer)
            return dict.fromkeys((action.place for action in share), error)
        failures: dict[int, PenstockError] = {}
        own_index = not self._index.constant
        for action, item in zip(share, items, strict=True):
            failed = error_of_item(item, versioned=self._settings.keep_newer, own_index=own_index)
            if failed is not None:
                failures[action.place] = failed
        return failures

    def _ask(self, body: bytes) -> httpx.Response | PenstockError:
        """Post a bulk call to the node in use, or to the next that answers."""
        client, urls = self._client, self._settings.urls
        assert client is not None  # noqa: S101 - the contract: open comes first
        pipeline = self._settings.pipeline
        parameters = {} if pipeline is None else {"pipeline": pipeline}
        failed: PenstockError | None = None
        for _ in urls:
            url = urls[self._node]
            try:
                return client.post(
                    f"{url.rstrip('/')}/_bulk", content=body, headers=_NDJSON, params=parameters
                )
            except (httpx.HTTPError, OSError) as error:
                failed = self._not_answered(url, error)
                self._node = (self._node + 1) % len(urls)
        assert failed is not None  # noqa: S101 - there is a URL at least
        return failed

    def _not_answered(self, url: str, error: Exception) -> PenstockError:
        origin = origin_of(url)
        if isinstance(error, httpx.TimeoutException):
            return RetryableError(
                f"{origin} did not answer within {self._settings.timeout:g}s.",
                code="elasticsearch_unavailable",
                hint="It is tried again; a document that was written is written over itself.",
            )
        if "CERTIFICATE" in str(error).upper():
            return FatalError(
                f"the certificate of {origin} is not trusted: {error}.",
                code="elasticsearch_refused",
                hint="Name its authority in `ca_file`.",
            )
        return RetryableError(
            f"{origin} can't be reached: {str(error) or type(error).__name__}.",
            code="elasticsearch_unavailable",
            hint="It is tried again.",
        )

    def _of_all(self, answer: httpx.Response) -> PenstockError:
        status = answer.status_code
        if status in {401, 403}:
            return FatalError(
                f"the cluster answered {status}.",
                code="elasticsearch_refused",
                hint="Check username and password, or api_key, and their rights.",
                status=status,
            )
        wait = retry_after(answer.headers.get("retry-after"), datetime.now(timezone.utc))
        return RetryableError(
            f"the cluster answered {status}.",
            code="elasticsearch_unavailable",
            hint="It is tried again.",
            retry_after=wait,
            status=status,
        )

    def _refused(self, answer: httpx.Response) -> PermanentError:
        said = " ".join(answer.text.split())[:300]
        return PermanentError(
            f"the cluster refused the document with {answer.status_code}: {said}.",
            code="elasticsearch_document",
            hint="It is too large for http.max_content_length, or no JSON object.",
            status=answer.status_code,
        )

    def settled_state(self) -> Mapping[str, str] | None:
        """Return None: ids tell documents apart."""
        return None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None
