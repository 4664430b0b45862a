"""What `validate --connect` looks at for transactions: the rights on their name and their group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported, not as such
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from connectors.contracts import Check, TransactionScope
from connectors.kafka.cluster import ANSWER_SECONDS, CLIENT_LOG
from connectors.kafka.failures import ClientErrors


def transacting(
    brokers: list[str], options: Mapping[str, str], scope: TransactionScope
) -> Iterator[Check]:
    """Look up the ACLs for this user, changing nothing.

    A client can't ask for its own rights on these: what says so are the ACLs, and super users, who
    need none, can't be told from others.
    """
    properties: dict[str, Any] = {
        **options,
        "bootstrap.servers": ",".join(brokers),
        "logger": CLIENT_LOG,
        "error_cb": ClientErrors(", ".join(brokers)),
    }
    admin = AdminClient(properties)
    name = f"TransactionalId {scope.writer}"
    try:
        if not _has_authorizer(admin):
            found = "the broker checks no rights: it has no authorizer"
            yield Check(name, ok=True, found=found)
            return
        # Without this right the list of ACLs is empty, and no error (librdkafka 2.16).
        if not _may_look(admin):
            yield Check(
                name,
                ok=False,
                found="whether this user may use it can't be told: it may not describe ACLs",
                hint="To look, it needs Describe on the cluster. Else the first start will tell.",
                severity="warning",
            )
            return
        user = options.get("sasl.username")
        prefix = f"{scope.writer.rpartition('/')[0].rpartition('/')[0]}/"
        found_acls = _acls(admin, ResourceType.TRANSACTIONAL_ID, scope.writer)
        granting = f"--transactional-id {prefix} --resource-pattern-type prefixed"
        yield _judged(name, found_acls, AclOperation.WRITE, user, granting)
        found_acls = _acls(admin, ResourceType.GROUP, scope.group)
        granting = f"--group {scope.group}"
        yield _judged(f"group {scope.group}", found_acls, AclOperation.READ, user, granting)
    except (KafkaException, NoAnswer) as error:
        said = error.args[0] if error.args else "no answer"
        yield Check(
            name,
            ok=False,
            found=f"whether this user may use it can't be told: {said}",
            hint="Is the broker up?",
            severity="warning",
        )


def _has_authorizer(admin: AdminClient) -> bool:
    """Whether the broker checks rights; True where it doesn't say. Raises KafkaException."""
    brokers = admin.list_topics(timeout=ANSWER_SECONDS).brokers
    resource = ConfigResource(ResourceType.BROKER, str(next(iter(brokers))))
    answer = admin.describe_configs([resource], request_timeout=ANSWER_SECONDS)
    try:
        entry: Any = answer[resource].result(ANSWER_SECONDS + 1).get("authorizer.class.name")
    except KafkaException:
        return True  # it refuses to say, so somebody does
    return entry is None or bool(entry.value)


def _may_look(admin: AdminClient) -> bool:
    """Whether this user may describe ACLs. Raises KafkaException."""
    answer = admin.describe_cluster(
        include_authorized_operations=True, request_timeout=ANSWER_SECONDS
    )
    allowed: list[AclOperation] = answer.result(ANSWER_SECONDS + 1).authorized_operations or []
    return bool({AclOperation.DESCRIBE, AclOperation.ALL} & set(allowed))


def _acls(admin: AdminClient, kind: ResourceType, name: str) -> list[AclBinding]:
    """Return the ACLs that hold for a resource. Raises KafkaException."""
    wanted = AclBindingFilter(
        kind,
        name,
        ResourcePatternType.MATCH,
        None,  # type: ignore[arg-type]  # any principal, from any host: its types lack it
        None,  # type: ignore[arg-type]
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    answer = admin.describe_acls(wanted, request_timeout=ANSWER_SECONDS)
    found: list[AclBinding] = answer.result(ANSWER_SECONDS + 1)
    return found


def _judged(
    name: str, found: list[AclBinding], operation: AclOperation, user: str | None, argument: str
) -> Check:
    principals = {f"User:{user}", "User:*"}
    mine = [
        each
        for each in found
        if each.operation in {operation, AclOperation.ALL}
        and (user is None or each.principal in principals)
    ]
    said = operation.name.capitalize()
    denied = [each for each in mine if each.permission_type == AclPermissionType.DENY]
    if denied and user is not None:
        return Check(
            name,
            ok=False,
            found=f"{said} is denied to {denied[0].principal}",
            hint="Take that ACL away: a DENY stands above all others.",
        )
    allowed = [each.principal for each in mine if each.permission_type == AclPermissionType.ALLOW]
    if allowed:
        return Check(name, ok=True, found=f"{said} allowed to {', '.join(dict.fromkeys(allowed))}")
    return Check(
        name,
        ok=False,
        found=f"no ACL allows {said}" + ("" if user is None else f" to User:{user}"),
        hint="A super user needs none. Else: kafka-acls.sh --bootstrap-server <broker> --add"
        f" --allow-principal User:{user or '<user>'} --operation {said} {argument}",
        severity="warning",
    )
