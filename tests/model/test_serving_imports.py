import subprocess
import sys

MODEL = ("arrays", "artifact", "dataset", "forecaster", "gate", "manifest", "runtime", "spec", "store")
SERVING = ("cli", "service.daemon", *(f"model.{name}" for name in MODEL))


def test_the_serving_side_does_not_load_tensorflow() -> None:
    """It would cost the daemon half a gigabyte and seconds of start-up."""
    imports = ", ".join(f"streamer.{name}" for name in SERVING)
    code = f"import sys, {imports}; print(*sorted({{'tensorflow', 'keras'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
