"""`${…}` in flow files, and what is masked because of it."""

from __future__ import annotations

LOG = """
    pipelines:
      p:
        steps:
          - name: say
            type: step.log
            config:
              message: MESSAGE
"""


def message(plan) -> str:
    return plan.pipelines[0].steps[0].settings.message


def with_message(text: str) -> str:
    return LOG.replace("MESSAGE", text)


def test_variables_defaults_files_and_escapes_are_replaced(load, tmp_path):
    (tmp_path / "word.txt").write_text("from file\n")
    text = with_message("'${A} ${B:-fallback} ${EMPTY:-other} ${file:word.txt} $${A} ${{ .id }}'")
    plan = load(text, A="value-of-a", EMPTY="")
    assert message(plan) == "value-of-a fallback other from file ${A} ${{ .id }}"


def test_a_value_that_is_one_variable_stays_a_text(load):
    assert message(load(with_message("${N}"), N="00123")) == "00123"


def test_a_value_is_not_substituted_twice(load):
    assert message(load(with_message("${A}"), A="${B}")) == "${B}"


def test_a_number_may_come_from_a_variable(load):
    text = """
        modules:
          - {name: q, type: source.aws_sqs, config: {queue_url: "https://q/1", receivers: "${N}"}}
    """
    assert load(text, N="7").source("q").settings.receivers == 7


def test_a_missing_variable_is_named_with_its_place(refused):
    assert refused(with_message('"a ${DATABASE_UR} b"')) == (
        "flow.yaml:7:23: the environment variable DATABASE_UR is not set.\n"
        '  7 |           message: "a ${DATABASE_UR} b"\n'
        "    |                       ^^^^^^^^^^^^^^\n"
        "  Did you mean DATABASE_URL? Set it, or give a default: ${DATABASE_UR:-…}. "
        "To keep it as it stands, write $${ instead of ${."
    )


def test_what_is_no_substitution_is_refused(refused):
    assert "expected ${NAME}, ${NAME:-default} or ${file:/path}, found ${a.b}" in refused(
        with_message("'${a.b}'")
    )
    assert "${ is not closed." in refused(with_message("'${A'"))
    assert "the file nowhere.txt can't be read: No such file" in refused(
        with_message("'${file:nowhere.txt}'")
    )


def test_what_was_substituted_is_masked(load, tmp_path):
    (tmp_path / "tokens").write_text("ops:first-token-0123\nci:second-token-0123:write\n")
    text = """
        modules:
          - {name: q, type: sink.postgres, config: {connection: "${DATABASE_URL}", table: t}}
        log: {level: "${L}"}
        server: {tokens: "${file:tokens}"}
    """
    plan = load(text, L="info")
    address = "to postgresql://shop:s3cr3tpw@db.internal/shop"
    assert plan.redact(address) == "to postgresql://shop:***@db.internal/shop"
    assert plan.redact("level info") == "level info"
    assert plan.redact("password s3cr3tpw, second-token-0123") == "password ***, ***"
    assert plan.redact("another://user:pass@host") == "another://user:***@host"
    assert "s3cr3tpw" not in repr(plan)


def test_short_values_are_not_masked(load):
    assert load(with_message("${A}"), A="on").redact("on and on") == "on and on"


def test_a_password_that_stands_in_the_file_is_masked_too(load):
    text = """
        modules:
          - name: cache
            type: sink.redis_stream
            config: {url: "redis://:written%21pw@127.0.0.1/0", stream: s}
          - name: mail
            type: sink.email
            config: {host: h, from: a@b, to: [c@d], subject: s, text: t, username: u, password: plainpw1}
    """
    plan = load(text)
    assert plan.redact("written%21pw written!pw plainpw1 127.0.0.1") == "*** *** *** 127.0.0.1"


def test_an_error_never_shows_a_secret(refused):
    text = """
        modules:
          - name: cache
            type: sink.redis_stream
            config: {url: "redis://:topsecret@ho st/0", stream: 5}
          - name: q
            type: source.aws_sqs
            config: {queue_url: "${DATABASE_URL}", access_key_id: a, secret_access_key: [hushhush]}
    """
    said = refused(text)
    assert "topsecret" not in said
    assert "s3cr3tpw" not in said
    assert "url: expected a URL such as" in said


def test_the_version_of_a_flow_does_not_depend_on_its_secrets(load):
    text = """
        modules:
          - {name: q, type: sink.postgres, config: {connection: "${DATABASE_URL}", table: t}}
    """
    one = load(text)
    other = load(text, DATABASE_URL="postgresql://other:password@elsewhere/shop")
    written = text.replace("${DATABASE_URL}", "postgresql://u:PASS@h/d")
    assert one.version_hash == other.version_hash
    assert (
        load(written.replace("PASS", "first-one")).version_hash
        == load(written.replace("PASS", "second")).version_hash
    )
    assert one.version_hash != load(text.replace("table: t", "table: u")).version_hash
    assert one.version_hash == load(text + "\n        log: {level: debug}\n").version_hash


def test_a_missing_variable_is_one_problem_whatever_its_key_expects(refused):
    said = refused("""
        modules:
          - name: orders
            type: source.kafka
            config: { brokers: "${NO_BROKERS}", topics: [t] }
    """)
    assert "the environment variable NO_BROKERS is not set" in said
    assert "expected at least one address" not in said
