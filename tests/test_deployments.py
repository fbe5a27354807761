"""compose.yaml, Kubernetes manifests, systemd unit and Dockerfile against the code: all that needs no engine."""

import configparser
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streamer import cli
from streamer.config import load
from streamer.errors import ExitCode
from streamer.settings import Settings, keys
from streamer.settings.types import DURATION, SIZE
from tests.support import CHECKOUT

KUBERNETES = CHECKOUT / "config" / "kubernetes"
UNIT = CHECKOUT / "config" / "systemd" / "streamer.service"
COMPOSE = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
OF_OTHERS = ("PodMonitor", "ScaledObject")  # custom resources, whose schemas come with their operators
BROKER = {"STREAMER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9092"}


def settings_of(environment: Mapping[str, str], file: Path | None = None) -> Settings:
    """The settings that a deployment runs with; SettingsError where one is unknown or out of range."""
    return load(file, {name: value for name, value in environment.items() if name.startswith("STREAMER_")})


def parsed(command: list[str]) -> Any:
    """A command as our own parser reads it; it ends the test where it is none."""
    return cli._parser().parse_args(command)


class TestCompose:
    def test_images_are_pinned_and_nothing_is_reached_from_other_machines(self) -> None:
        for name, service in SERVICES.items():
            tag = service["image"].partition(":")[2]
            assert tag, name
            assert tag != "latest", name
            for port in service.get("ports", ()):
                assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"

    def test_its_kafka_is_the_one_that_the_tests_run(self) -> None:
        [version] = re.findall(r"^version=(.+)$", (CHECKOUT / "scripts" / "kafka").read_text(), re.MULTILINE)
        assert SERVICES["kafka"]["image"] == SERVICES["topics"]["image"] == f"apache/kafka:{version}"

    def test_what_is_mounted_exists_and_volumes_are_declared(self) -> None:
        used = set()
        for service in SERVICES.values():
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                if source.startswith("."):
                    assert (CHECKOUT / source).exists(), f"{source} is mounted, and is not there"
                    assert volume.endswith(":ro")
                else:
                    used.add(source)
        assert used == set(COMPOSE["volumes"])

    def test_services_wait_for_services_in_a_state_that_they_reach(self) -> None:
        for name, service in SERVICES.items():
            for other, condition in service.get("depends_on", {}).items():
                awaited = SERVICES[other]
                if condition["condition"] == "service_completed_successfully":
                    assert awaited["restart"] == "no", f"{name} waits for the end of {other}, which is started again"
                else:
                    own = "healthcheck" in awaited or other == "streamer"  # that one has the image's
                    assert own, f"{name} waits for the health of {other}, which has no check"

    @pytest.mark.parametrize("name", OURS)
    def test_commands_and_settings_of_ours_are_known(self, name: str) -> None:
        service = SERVICES[name]
        arguments = parsed(service["command"])
        file = CHECKOUT / "config" / "streamer.yaml" if "-c" in service["command"] else None
        settings = settings_of(service["environment"], file)
        assert settings.kafka.bootstrap_servers == "kafka:19092"
        assert callable(arguments.handler)

    def test_the_feed_and_the_daemon_agree_on_the_step_and_the_prices(self) -> None:
        data, feed = parsed(SERVICES["data"]["command"]), parsed(SERVICES["feed"]["command"])
        settings = settings_of(SERVICES["streamer"]["environment"])
        assert data.output.name == feed.data.name
        assert data.step == settings.feed.step_ms
        assert feed.live

    def test_addresses_agree(self) -> None:
        kafka = SERVICES["kafka"]["environment"]
        listeners = dict(each.split("://") for each in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
        assert listeners["INSIDE"] == settings_of(SERVICES["streamer"]["environment"]).kafka.bootstrap_servers
        assert SERVICES["kafka"]["ports"] == [f"{listeners['HOST']}:9092"]
        assert set(kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")) == {
            f"{name}:PLAINTEXT" for name in ("CONTROLLER", "HOST", "INSIDE")
        }
        [port] = SERVICES["streamer"]["ports"]
        assert port.endswith(f":{settings_of(SERVICES['streamer']['environment']).http.port}")
        assert f"--topic={settings_of(BROKER).kafka.topics.prices}" in SERVICES["topics"]["command"]

    def test_services_cannot_gain_rights_and_ours_write_to_volumes_alone(self) -> None:
        for name, service in SERVICES.items():
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            if name not in ("kafka", "topics"):
                assert service["read_only"], name

    def test_no_secret_stands_in_it(self) -> None:
        secrets = {"__".join(path).upper() for path in keys.secret_paths()}
        for service in SERVICES.values():
            names = {name.removeprefix("STREAMER_") for name in service.get("environment", {})}
            assert not names & secrets
            assert not [name for name in names if "PASSWORD" in name]

    def test_a_stop_is_waited_for(self) -> None:
        service = SERVICES["streamer"]
        shutdown = settings_of(service["environment"]).daemon.shutdown_timeout
        assert DURATION.parse(service["stop_grace_period"]) > shutdown

    def test_a_training_has_what_it_needs_to_write(self) -> None:
        assert "/tmp" in SERVICES["streamer"]["tmpfs"]


def manifests() -> Iterator[dict[str, Any]]:
    for path in sorted(KUBERNETES.glob("*.yaml")):
        found = yaml.safe_load(path.read_text())
        if "kind" in found and found["kind"] != "Kustomization":
            yield found


MANIFESTS = {each["kind"]: each for each in manifests()}
POD = MANIFESTS["StatefulSet"]["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]


class TestKubernetes:
    @pytest.mark.parametrize("kind", [kind for kind in MANIFESTS if kind not in OF_OTHERS])
    def test_manifests_are_what_the_api_takes(self, kind: str) -> None:
        kubernetes_validate.validate(MANIFESTS[kind], "1.30", strict=True)

    def test_a_manifest_that_is_none_is_found(self) -> None:
        broken = json.loads(json.dumps(MANIFESTS["StatefulSet"]).replace('"readOnlyRootFilesystem"', '"readOnly"'))
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, "1.30", strict=True)

    def test_kustomize_builds_it(self) -> None:
        program = shutil.which("kubectl")
        kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
        for name in (*kustomization["resources"], *kustomization["configMapGenerator"][0]["files"]):
            assert (KUBERNETES / name).exists()
        if program is not None:
            built = subprocess.run([program, "kustomize", KUBERNETES], capture_output=True, text=True, check=False)
            assert built.returncode == 0, built.stderr
            assert "streamer:0.1.0" in built.stdout

    def test_all_name_the_same_pods(self) -> None:
        labels = POD["metadata"]["labels"]
        assert MANIFESTS["Service"]["spec"]["selector"] == labels
        for kind in ("StatefulSet", "PodDisruptionBudget", "PodMonitor"):
            assert MANIFESTS[kind]["spec"]["selector"]["matchLabels"] == labels
        assert (
            MANIFESTS["ScaledObject"]["spec"]["scaleTargetRef"]["name"] == MANIFESTS["StatefulSet"]["metadata"]["name"]
        )
        assert MANIFESTS["StatefulSet"]["spec"]["serviceName"] == MANIFESTS["Service"]["metadata"]["name"]

    def test_its_settings_are_known_and_its_command_too(self) -> None:
        settings = settings_of({}, KUBERNETES / "streamer.yaml")
        parsed(CONTAINER["args"])
        names = [each["name"].removeprefix("STREAMER_").lower().split("__") for each in CONTAINER["env"]]
        assert all(keys.find(tuple(name)) is not None for name in names)
        assert ["kafka", "instance_id"] in names
        trigger = MANIFESTS["ScaledObject"]["spec"]["triggers"][0]["metadata"]
        assert trigger["bootstrapServers"] == settings.kafka.bootstrap_servers
        assert trigger["consumerGroup"] == settings.kafka.group_id
        assert trigger["topic"] == settings.kafka.topics.prices

    def test_the_port_is_the_one_that_is_probed_and_scraped(self) -> None:
        [port] = CONTAINER["ports"]
        assert port["containerPort"] == settings_of(BROKER).http.port
        assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
        paths = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        assert {each["port"] for each in paths.values()} == {port["name"]}
        assert [each["path"] for each in paths.values()] == ["/livez", "/livez", "/readyz"]

    def test_a_stop_and_a_training_fit_into_what_the_pod_is_given(self) -> None:
        settings = settings_of({}, KUBERNETES / "streamer.yaml")
        assert POD["spec"]["terminationGracePeriodSeconds"] > settings.daemon.shutdown_timeout
        limit = SIZE.parse(CONTAINER["resources"]["limits"]["memory"].replace("Gi", "GiB"))
        assert limit > settings.retrain.memory_limit + 256 * 2**20

    def test_it_writes_where_volumes_are_mounted_alone(self) -> None:
        assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
        assert POD["spec"]["securityContext"]["runAsNonRoot"]
        mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
        assert {volume["name"] for volume in POD["spec"]["volumes"]} == set(mounts)
        assert {"/tmp", "/var/lib/streamer"} <= set(mounts.values())


class Unit(configparser.RawConfigParser):
    """A unit of systemd; of a key that stands more than once, all values."""

    def __init__(self, text: str) -> None:
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        self.read_string(text)
        self.lines = [line for line in text.splitlines() if not line.startswith("#")]

    def values(self, name: str) -> list[str]:  # type: ignore[override]
        """All values of a key."""
        return [line.partition("=")[2] for line in self.lines if line.startswith(f"{name}=")]


class TestSystemd:
    unit = Unit(UNIT.read_text())

    def test_its_command_and_settings_are_known(self) -> None:
        [start] = self.unit.values("ExecStart")
        parsed(start.split()[1:])
        pairs = dict(pair.split("=", 1) for line in self.unit.values("Environment") for pair in line.split())
        settings = settings_of({**pairs, **BROKER, "STREAMER_KAFKA__INSTANCE_ID": "streamer-0"})
        assert settings.log.format == "json"

    def test_secrets_that_it_shows_are_keys(self) -> None:
        shown = re.findall(r"^#Environment=STREAMER_(\w+)=%d/", UNIT.read_text(), re.MULTILINE)
        assert len(shown) == 2
        assert all(keys.find(tuple(name.lower().split("__"))) is not None for name in shown)

    def test_what_a_restart_cannot_mend_is_not_started_again(self) -> None:
        [codes] = self.unit.values("RestartPreventExitStatus")
        assert set(map(int, codes.split())) == {ExitCode.USAGE, ExitCode.UNMENDABLE}

    def test_a_stop_is_waited_for(self) -> None:
        [patience] = self.unit.values("TimeoutStopSec")
        assert DURATION.parse(patience) > settings_of(BROKER).daemon.shutdown_timeout

    def test_systemd_takes_it(self, tmp_path: Path) -> None:
        program = shutil.which("systemd-analyze")
        if program is None:
            pytest.skip("no systemd here: its package has systemd-analyze")
        placed = tmp_path / UNIT.name
        placed.write_text(UNIT.read_text().replace("/opt/streamer/bin/streamer", "/bin/true"))  # which has to exist
        verified = subprocess.run([program, "verify", placed], capture_output=True, text=True, check=False)
        assert (verified.returncode, verified.stderr) == (0, "")


class TestDockerfile:
    text = (CHECKOUT / "Dockerfile").read_text()

    def test_what_is_copied_is_in_the_build_context(self) -> None:
        kept = [line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        assert all((CHECKOUT / name).exists() for name in kept)
        project = (CHECKOUT / "pyproject.toml").read_text()
        assert {"streamer", "pyproject.toml", "constraints.txt", "LICENSE"} <= set(kept)
        assert "README.md" in kept or "readme" not in project

    def test_its_default_command_and_settings_are_known(self) -> None:
        [command] = re.findall(r"^CMD (\[.*\])$", self.text, re.MULTILINE)
        parsed(json.loads(command))
        [host] = re.findall(r"STREAMER_HTTP__HOST=(\S+)", self.text)
        assert settings_of({**BROKER, "STREAMER_HTTP__HOST": host}).http.host == "0.0.0.0"
        assert f"EXPOSE {settings_of(BROKER).http.port}" in self.text

    def test_all_deployments_run_as_its_user(self) -> None:
        [user, group] = re.findall(r"^USER (\d+):(\d+)$", self.text, re.MULTILINE)[0]
        context = POD["spec"]["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
