"""A real schema registry: Apicurio's, which speaks Confluent's API, from Maven Central as Kafka itself."""

import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support import MissingProgramsError, eventually, free_port

_VERSION = "2.6.13.Final"
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy"
_START_SECONDS = 120.0


@asynccontextmanager
async def real_registry(folder: Path) -> AsyncIterator[str]:
    """The address of one that runs for the time of the block: STREAMER_TEST_REGISTRY, or else one of our own.

    Raises MissingProgramsError where Java or Maven is missing.
    """
    if named := os.environ.get("STREAMER_TEST_REGISTRY"):
        yield named
        return
    port, home = free_port(), _fetched()
    options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-Dquarkus.http.host=127.0.0.1"]
    jar = home / f"apicurio-registry-app-{_VERSION}-runner.jar"
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    with (folder / "registry.log").open("wb") as output:
        # It ends with this process, even if that is killed.
        line = ["setpriv", "--pdeathsig=KILL", "java", *options, f"-Dquarkus.http.port={port}", "-jar", str(jar)]
        process = subprocess.Popen(line, cwd=folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            await eventually(lambda: _answers(process, url), timeout=_START_SECONDS, interval=0.2)
            yield url
        finally:
            process.kill()
            process.wait()


def _answers(process: "subprocess.Popen[bytes]", url: str) -> bool:
    assert process.poll() is None, "the registry has ended, see registry.log"
    try:
        with urllib.request.urlopen(f"{url}/schemas/types", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _fetched() -> Path:
    """The folder with its jars: 142 MB, downloaded once."""
    caches = (
        os.environ.get("STREAMER_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'}/streamer"
    )
    home = Path(caches) / f"apicurio-registry-{_VERSION}"
    if shutil.which("java") is None:
        raise MissingProgramsError("a schema registry needs Java: install default-jre-headless")
    if home.is_dir():
        return home
    if shutil.which("mvn") is None:
        raise MissingProgramsError("a schema registry is downloaded by Maven: install maven")
    home.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=home.name, dir=home.parent))
    artifact = f"-Dartifact=io.apicurio:apicurio-registry-app:{_VERSION}:tar.gz:all"
    fetch = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", _PLUGIN, artifact, f"-DoutputDirectory={work}"]
    done = subprocess.run(fetch, cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (archive,) = work.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(work, filter="data")
    archive.unlink()
    try:
        work.rename(home)  # if another run was first, its copy is as good
    except OSError:
        shutil.rmtree(work)
    return home
