"""Several documents and several files make one flow."""

from __future__ import annotations

from connectors.settings import Settings

SOURCE = """
    modules:
      - {name: jobs, type: source.aws_sqs, config: {queue_url: "https://q/1"}}
"""
PIPELINE = """
    version: 1
    pipelines:
      p:
        trigger: {source: jobs}
        steps: [{name: say, type: step.log, config: {message: hello}}]
"""


def test_files_are_merged_into_one_flow(load):
    plan = load(SOURCE, PIPELINE, SOURCE.replace("jobs", "more"))
    assert [source.name for source in plan.sources] == ["jobs", "more"]
    assert [pipeline.name for pipeline in plan.source("jobs").pipelines] == ["p"]
    assert plan.name == "flow"
    assert len(plan.files) == 3


def test_documents_of_one_file_are_merged_alike(load):
    plan = load(f"{SOURCE}\n---\n{PIPELINE}")
    assert plan.pipeline("p").source == "jobs"


def test_the_same_version_may_stand_in_every_file(load):
    assert load(f"version: 1\n---\n{SOURCE}", PIPELINE).pipelines


def test_a_clash_names_both_places(refused):
    said = refused(
        "name: a\nlog: {level: info}\n" + SOURCE.replace("\n    ", "\n"),
        "name: b\nlog: {level: info}\n" + SOURCE.replace("\n    ", "\n"),
    )
    assert "flow1.yaml:1:1: name is set twice: here and at flow.yaml:1:1." in said
    assert "flow1.yaml:2:1: log is set twice: here and at flow.yaml:2:1." in said
    assert "flow1.yaml:5:12: module jobs is there twice: here and at flow.yaml:5:5." in said


def test_a_pipeline_or_schema_of_the_same_name_clashes(refused):
    said = refused(
        SOURCE + PIPELINE + "    schemas: {s: {data_schema: {}}}\n",
        PIPELINE,
        "schemas: {s: {data_schema: {}}}\n",
    )
    assert "flow1.yaml:3:3: pipeline p is set twice: here and at flow.yaml:6:3." in said
    assert "flow2.yaml:1:11: schema s is set twice: here and at flow.yaml:9:11." in said


def test_steps_at_the_top_level_are_a_pipeline_named_like_the_file(load):
    plan = load("steps: [{name: say, type: step.log, config: {message: hello}}]\n")
    assert plan.pipeline("flow").module is None
    assert [step.name for step in plan.pipeline("flow").steps] == ["say"]


def test_what_an_unreadable_file_declares_is_not_called_missing(refused):
    said = refused("modules: [\n", PIPELINE)
    assert "there is no module" not in said
    assert said.startswith("flow.yaml:2:1: a value is expected here.")


def test_settings_of_a_flow_never_change(load):
    settings = load(SOURCE).source("jobs").settings
    assert isinstance(settings, Settings)
    assert settings.model_config["frozen"] is True
