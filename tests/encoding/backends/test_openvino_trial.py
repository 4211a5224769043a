"""Native code never ends the user's process: a converted model runs first in a process of its own.

Real processes run real scripts. In each of them, children included, OpenVINO is broken in the same way: compiling what
``DEADLY`` describes ends the process, as an error of OpenVINO does on some processors.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skembed
from skembed import embed
from skembed.encoding.models import registry
from skembed.encoding.settings import Settings

if find_spec("openvino") is None:  # it must not be imported here, but by the backend: without its telemetry
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from skembed.encoding.backends import openvino_backend, openvino_conversion, openvino_folder, openvino_trial

pytestmark = pytest.mark.filterwarnings("ignore::skembed.TruncationWarning")
native_bfloat16 = pytest.mark.skipif(
    not openvino_backend.multiplies_bfloat16(), reason="the processor has no native bfloat16"
)
slow = pytest.mark.slow

BFLOAT16 = {"INFERENCE_PRECISION_HINT": "bf16"}
SEVERAL = {**BFLOAT16, "PERFORMANCE_HINT": "THROUGHPUT"}
EVERYTHING = {"INFERENCE_NUM_THREADS": 1}
FLOAT32 = {"backend": "openvino", "dtype": "float32", "cache": None}
DEAD = "ends the process that runs it with SIGFPE"

BROKEN = """
import importlib.abc, importlib.machinery, json, os, signal, sys

def die():
    if "FIFO" in os.environ:  # hang, after telling who does
        with open(os.environ["FIFO"], "w") as fifo:
            fifo.write(str(os.getpid()))
        signal.pause()
    os.kill(os.getpid(), signal.Signals[os.environ.get("DEADLY_BY", "SIGFPE")])

def broken(compile):
    def compile_or_die(self, model, device, options):
        deadly = json.loads(os.environ["DEADLY"])
        if deadly.items() <= options.items():
            die()
        return compile(self, model, device, options)
    return compile_or_die

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "openvino":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        original = spec.loader.exec_module
        def exec_module(module):
            original(module)
            for name in ("compile_model", "import_model"):
                setattr(module.Core, name, broken(getattr(module.Core, name)))
        spec.loader.exec_module = exec_module
        return spec

if "DEADLY" in os.environ:
    sys.meta_path.insert(0, Finder())
"""

SCRIPT = """
import json, sys, warnings
warnings.simplefilter("always")
import skembed
from skembed.encoding.models import registry

def embedded(texts, **params):
    vectors = skembed.embed(texts, **{"model": MODEL, "cache": None, "batch_tokens": 64, **params})
    ran = [(model.backend.name, model.dtype) for model in registry._loaded.values()]
    return vectors.tolist(), ran

TEXTS = [f"text {number} of the quick brown fox" for number in range(40)]
"""

NOTEBOOK = """
import sys
from jupyter_client.manager import start_new_kernel

def show(message):
    if message["msg_type"] == "stream":
        getattr(sys, message["content"]["name"]).write(message["content"]["text"])

manager, client = start_new_kernel()
try:
    reply = client.execute_interactive(sys.stdin.read(), output_hook=show)
finally:
    client.stop_channels()
    manager.shutdown_kernel()
sys.exit(0 if reply["content"]["status"] == "ok" else str(reply["content"]))
"""


@pytest.fixture
def texts():
    return [f"text {number} of the quick brown fox" for number in range(40)]


@pytest.fixture(scope="module")
def converted(tmp_path_factory, model_folder):
    """Caches with a converted model, of which nothing is known yet."""
    caches = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(caches))
        embed(["a"], model=model_folder("decoder"), **FLOAT32)
    skembed.unload_models()
    for pattern in ("*.verdict", "*.blob"):
        for file in folder_of(caches).glob(pattern):
            file.unlink()
    return caches


@pytest.fixture
def caches(tmp_path, converted):
    """A home for caches, in which the model is converted."""
    return Path(shutil.copytree(converted, tmp_path / "caches"))


@pytest.fixture
def new_caches(caches):
    """A home for caches, in which nothing is."""
    shutil.rmtree(caches)
    return caches


@pytest.fixture
def run(tmp_path, caches, model_folder):
    """``run(code, deadly)``: the JSON that a script prints and its warnings, where OpenVINO is broken."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BROKEN)

    def run_script(code, deadly=None, *, before=(), how="file", model="decoder", **variables):
        environment = environment_of(tmp_path, caches, deadly, variables)
        whole = f"MODEL = {model_folder(model)!r}\n{SCRIPT}\n{code}"
        command = [*before, *command_of(whole, how, tmp_path)]
        given = whole if how in ("stdin", "notebook") else ""
        ended = subprocess.run(command, input=given, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert ended.returncode == 0, (ended.returncode, ended.stderr)
        return json.loads(ended.stdout.splitlines()[-1]), ended.stderr

    return run_script


def environment_of(folder, caches, deadly, variables):
    path = os.pathsep.join([str(folder / "site"), *filter(None, sys.path)])
    said = {} if deadly is None else {"DEADLY": json.dumps(deadly)}
    own = {"PYTHONPATH": path, "XDG_CACHE_HOME": str(caches), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    return {**os.environ, **own, **said, **variables}


def command_of(code: str, how: str, folder: Path) -> list[str]:
    if how == "file":
        (folder / "script.py").write_text(code)
        return [sys.executable, "script.py"]
    return [sys.executable, *{"-c": ["-c", code], "stdin": ["-"], "notebook": ["-c", NOTEBOOK]}[how]]


def expected(texts, model, **params):
    return embed(texts, model=model, backend="torch", dtype="float32", cache=None, **params)


def folder_of(caches: Path) -> Path:
    (folder,) = [path for path in (caches / "skembed" / "openvino").iterdir() if path.is_dir()]
    return folder


@slow
@native_bfloat16
class TestAModelThatEndsItsProcess:
    PRINT = "print(json.dumps(embedded(TEXTS)))"

    @pytest.mark.parametrize("how", ["file", "-c", "stdin", "notebook"])
    def test_in_bfloat16_is_run_in_float32_with_one_warning(self, how, run, model_folder, texts):
        (vectors, ran), said = run(self.PRINT, BFLOAT16, how=how)  # no main guard, or no main file at all
        assert ran == [["openvino", "float32"]]
        assert_allclose(vectors, expected(texts, model_folder("decoder")), atol=1e-5)
        assert said.count("UserWarning") == 1
        assert f"{model_folder('decoder')} in float32, which is slower: in bfloat16, it {DEAD}" in said

    def test_in_bfloat16_is_converted_and_run_in_float32_with_one_warning(self, run, new_caches):
        (_, ran), said = run(self.PRINT, BFLOAT16)
        assert ran == [["openvino", "float32"]]
        assert said.count("UserWarning") == 1

    @pytest.mark.parametrize("is_converted", [False, True])
    def test_in_any_precision_is_run_by_torch_with_one_warning(self, is_converted, run, caches, model_folder, texts):
        if not is_converted:
            shutil.rmtree(caches)
        (vectors, ran), said = run(self.PRINT, EVERYTHING)
        assert ran == [["torch", "float32"]]
        assert_allclose(vectors, expected(texts, model_folder("decoder")), atol=1e-5)
        assert said.count("UserWarning") == 1
        assert DEAD in said
        assert "torch runs it instead" in said

    def test_with_several_batches_at_a_time_runs_one_at_a_time(self, run, model_folder, texts):
        take = "from skembed.encoding.backends import openvino_backend; openvino_backend._SMALLEST_PROBE_COSINE = 0.9\n"
        (vectors, ran), said = run(take + self.PRINT, SEVERAL)
        assert ran == [["openvino", "bfloat16"]]
        assert_allclose(vectors, expected(texts, model_folder("decoder")), atol=0.05)
        assert said.count("UserWarning") == 1
        assert f"in bfloat16 and one batch at a time, because otherwise it {DEAD}" in said

    @pytest.mark.parametrize("by", ["SIGSEGV", "SIGILL", "SIGABRT", "SIGKILL"])
    def test_by_any_signal_ends_a_child_alone(self, by, run):
        (_, ran), said = run(self.PRINT, BFLOAT16, DEADLY_BY=by)
        assert ran == [["openvino", "float32"]]
        assert f"ends the process that runs it with {by}" in said

    def test_is_remembered_by_the_next_process(self, run, caches):
        run(self.PRINT, BFLOAT16)
        verdicts = {file: file.read_bytes() for file in folder_of(caches).glob("*.verdict")}
        forbid = "import subprocess; subprocess.Popen = None\n"
        (_, ran), said = run(forbid + self.PRINT, BFLOAT16)
        assert ran == [["openvino", "float32"]]
        assert said.count("UserWarning") == 1
        assert {file: file.read_bytes() for file in folder_of(caches).glob("*.verdict")} == verdicts

    @pytest.mark.parametrize("is_converted", [False, True])
    def test_in_any_precision_is_remembered_by_the_next_process(self, is_converted, run, caches):
        if not is_converted:
            shutil.rmtree(caches)
        run(self.PRINT, EVERYTHING)
        (_, ran), said = run("import subprocess; subprocess.Popen = None\n" + self.PRINT, EVERYTHING)
        assert ran == [["torch", "float32"]]
        assert DEAD in said

    def test_in_other_threads_is_tried_there(self, run):
        deadly = {**BFLOAT16, "INFERENCE_NUM_THREADS": 1}
        run(self.PRINT, deadly, OMP_NUM_THREADS="2")
        (_, ran), _ = run(self.PRINT, deadly)
        assert ran == [["openvino", "float32"]]

    def test_that_was_killed_for_memory_is_tried_again_by_the_next_process(self, run):
        run(self.PRINT, BFLOAT16, DEADLY_BY="SIGKILL")
        (_, _), said = run(self.PRINT)
        assert "SIGKILL" not in said

    @pytest.mark.parametrize("layers", [1, [0, 1]])
    def test_with_inner_layers_is_run_in_float32(self, layers, run, model_folder, texts):
        (vectors, _), _ = run(f"print(json.dumps(embedded(TEXTS, layers={layers})))", BFLOAT16)
        assert_allclose(vectors, expected(texts, model_folder("decoder"), layers=layers), atol=1e-5)

    def test_with_inner_layers_alone_is_run_by_torch(self, run, model_folder, texts):
        code = """
from skembed.encoding.backends import openvino_trial
try_in_children = openvino_trial._try_in_children
def die_of_inner_layers(folder, asked, examples):
    if [1] in [list(fields["layers"]) for fields in asked]:
        return [openvino_trial.Outcome("it ends the process", lasts=True)] * len(asked)
    return try_in_children(folder, asked, examples)
openvino_trial._try_in_children = die_of_inner_layers
print(json.dumps(embedded(TEXTS, layers=1)))
"""
        (vectors, _), said = run(code)
        assert_allclose(vectors, expected(texts, model_folder("decoder"), layers=1), atol=1e-5)
        assert said.count("UserWarning") == 1
        assert "it ends the process. torch runs it instead" in said

    def test_and_was_loaded_is_run_in_float32(self, run, model_folder, texts):
        code = """
from sentence_transformers import SentenceTransformer
given = SentenceTransformer(MODEL, device="cpu")
print(json.dumps(embedded(TEXTS, model=given, backend="openvino")))
"""
        (vectors, ran), said = run(code, BFLOAT16)
        assert ran == [["openvino", "float32"]]
        assert_allclose(vectors, expected(texts, model_folder("decoder")), atol=1e-5)
        assert "the given SentenceTransformer in float32" in said

    @pytest.mark.parametrize(
        "pool",
        [
            "from multiprocessing import Pool\nwith Pool(1) as pool: found = pool.map(embedded, [TEXTS])",
            "import joblib\nfound = joblib.Parallel(n_jobs=2)([joblib.delayed(embedded)(TEXTS)] * 2)",
        ],
        ids=["multiprocessing", "loky"],
    )
    def test_does_not_end_a_worker(self, pool, run, model_folder, texts):
        code = "if __name__ == '__main__':\n    " + pool.replace("\n", "\n    ") + "\n    print(json.dumps(found[0]))"
        (vectors, ran), _ = run(code, BFLOAT16)
        assert ran == [["openvino", "float32"]]
        assert_allclose(vectors, expected(texts, model_folder("decoder")), atol=1e-5)

    def test_does_not_end_a_grid_search(self, run):
        code = """
if __name__ == "__main__":
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    model = skembed.SentenceEmbeddingTransformer(MODEL, cache=None)
    grid = {"sentenceembeddingtransformer__pooling": ["mean", "cls"]}
    search = GridSearchCV(make_pipeline(model, LogisticRegression()), grid, n_jobs=2, cv=2, error_score="raise")
    search.fit(TEXTS, [number % 2 for number in range(40)])
    print(json.dumps(search.best_score_))
"""
        score, _ = run(code, BFLOAT16)
        assert 0 <= score <= 1

    def test_whose_folder_is_read_only_is_tried_by_each_process(self, run, caches, model_folder, texts):
        folder = folder_of(caches)
        before = without_rights_of_root()
        for path in (folder, folder.parent):
            path.chmod(0o500)
        try:
            held = {file.name for file in folder.iterdir()}
            for _ in range(2):
                (vectors, ran), _ = run(self.PRINT, BFLOAT16, before=before)
                assert ran == [["openvino", "float32"]]
                assert_allclose(vectors, expected(texts, model_folder("decoder")), atol=1e-5)
            assert {file.name for file in folder.iterdir()} == held
        finally:
            for path in (folder.parent, folder):
                path.chmod(0o700)


def without_rights_of_root() -> list[str]:
    """Begin a command that may write only where the modes of files allow it."""
    if os.getuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root can write everywhere")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@slow
class TestWithoutAnInterpreter:
    EMPTY = "sys.executable = ''\n"
    PRINT = TestAModelThatEndsItsProcess.PRINT

    @pytest.mark.parametrize("executable", ["", None, "/no/such/python", "/bin/false-python", "/usr/bin/app"])
    def test_what_was_not_tried_is_run_by_torch_with_one_warning(self, executable, run, model_folder, texts):
        (vectors, ran), said = run(f"sys.executable = {executable!r}\n{self.PRINT}")
        assert ran == [["torch", "float32"]]
        assert_allclose(vectors, expected(texts, model_folder("decoder")), atol=1e-5)
        assert said.count("UserWarning") == 1
        assert "could not be tried in a process of its own first" in said

    def test_an_application_is_not_started_once_more(self, run):
        (_, ran), said = run(f"sys.frozen = True\n{self.PRINT}")
        assert ran == [["torch", "float32"]]
        assert "is not a Python" in said

    def test_what_was_tried_before_is_run(self, run):
        _, ran = run(self.PRINT)[0]
        assert run(self.EMPTY + self.PRINT)[0][1] == ran

    def test_a_python_that_fails_is_named(self, run, tmp_path):
        python = tmp_path / "python-that-fails"
        python.write_text("#!/bin/sh\necho no module named encodings >&2\nexit 3\n")
        python.chmod(0o700)
        (_, ran), said = run(f"sys.executable = {str(python)!r}\n{self.PRINT}")
        assert ran == [["torch", "float32"]]
        assert f"{python} ended with status 3: no module named encodings" in said

    @native_bfloat16
    def test_float32_that_was_tried_is_taken_where_bfloat16_was_not(self, run):
        forget = (
            "from skembed.encoding.backends import openvino_backend as it; it.multiplies_bfloat16 = lambda: False\n"
        )
        run(forget + self.PRINT)
        (_, ran), said = run(self.EMPTY + self.PRINT)
        assert ran == [["openvino", "float32"]]
        assert said.count("UserWarning") == 1
        assert "could not be tried" in said


@slow
@native_bfloat16
class TestAModelThatHangs:
    @pytest.fixture
    def fifo(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        return tmp_path / "fifo"

    def test_is_given_up_after_a_while(self, run, fifo):
        code = "from skembed.encoding.backends import openvino_trial; openvino_trial.SECONDS_PER_VARIANT = 5.0\n"
        reader = subprocess.Popen(["sh", "-c", f"while cat {fifo}; do :; done"], stdout=subprocess.DEVNULL)
        try:
            (_, ran), said = run(code + TestAModelThatEndsItsProcess.PRINT, BFLOAT16, FIFO=str(fifo))
        finally:
            reader.kill()
            reader.wait()
        assert ran == [["openvino", "float32"]]
        assert "did not end within 5 s" in said

    def test_is_ended_with_the_call_that_is_interrupted(self, run, fifo, tmp_path, caches, model_folder):
        code = f"MODEL = {model_folder('decoder')!r}\n{SCRIPT}\n{TestAModelThatEndsItsProcess.PRINT}"
        environment = environment_of(tmp_path, caches, BFLOAT16, {"FIFO": str(fifo)})
        script = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
        hanging = int(fifo.read_text())
        script.send_signal(signal.SIGINT)
        _, said = script.communicate()
        assert said.rstrip().endswith("KeyboardInterrupt")
        with pytest.raises(ProcessLookupError):
            os.kill(hanging, 0)
        assert list(folder_of(caches).glob("*.unfinished")) == []


@pytest.fixture(scope="module")
def every_file(tmp_path_factory, model_folder):
    """A conversion with every kind of file."""
    caches = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(caches))
        for batch_tokens in (512, 8):
            some = ["a fox", "the quick brown fox jumps over the lazy dog"] * 2
            embed(some, model=model_folder("dense"), batch_tokens=batch_tokens, cache=None)
        skembed.unload_models()
    return folder_of(caches)


class TestABitThatFlips:
    """In any file of a conversion: the vectors are right, or the model is converted again."""

    @pytest.mark.parametrize("n_flips", [pytest.param(4, marks=slow), pytest.param(200, marks=pytest.mark.exhaustive)])
    @pytest.mark.parametrize("dtype", ["auto", "float32"])
    @pytest.mark.parametrize(
        "kind", ["about.json", "model.xml", "model.bin", "tail.xml", "tail.bin", "probe.npy", "*.blob", "*.verdict"]
    )
    def test_gives_no_other_vectors(self, kind, dtype, n_flips, every_file, tmp_path):
        whole = openvino_backend.find_converted(every_file, dtype, "the model")
        right, files, draw = vectors_of(whole), sorted(every_file.glob(kind)), random.Random(0)
        assert files
        for number in range(n_flips):
            folder = Path(shutil.copytree(every_file, tmp_path / str(number)))
            flip(folder / files[number % len(files)].name, draw)
            found = openvino_backend.find_converted(folder, dtype, "the model")
            if found is not None:
                assert found.dtype == whole.dtype
                assert_array_equal(vectors_of(found), right)
            else:
                assert kind not in ("*.blob", "*.verdict")  # which are made again
            shutil.rmtree(folder)

    @pytest.mark.parametrize("bit", range(8))
    def test_in_sealed_content_is_detected_wherever_it_is(self, bit):
        content = openvino_trial.sealed({"reason": None, "names": ["à"]})
        for position in range(len(content)):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            with pytest.raises(ValueError, match="damaged"):
                openvino_trial.unsealed(bytes(damaged))
        assert openvino_trial.unsealed(content)["names"] == ["à"]


def flip(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def vectors_of(backend) -> np.ndarray:
    return openvino_backend.embed_probe(backend, ["a fox", "the parcel was sent", "0 1 2 3 4 5 6"])


@slow
class TestAUserWithoutAHome:
    """As in a container whose user has a number but no account."""

    @pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be somebody else")
    def test_embeds(self, run, model_folder, texts):
        code = "import os; os.setreuid(54321, 0); [os.environ.pop(name) for name in ('HOME', 'XDG_CACHE_HOME')]\n"
        (vectors, ran), _ = run(code + "print(json.dumps(embedded(TEXTS, dtype='float32')))")
        assert ran == [["openvino", "float32"]]
        assert_allclose(vectors, expected(texts, model_folder("decoder")), atol=1e-5)


class TestNothingIsLeftBehind:
    @pytest.fixture
    def temporary(self, tmp_path, monkeypatch):
        """Where temporary folders are made."""
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        return tmp_path / "temporary"

    @pytest.fixture
    def given(self, tiny, monkeypatch):
        from sentence_transformers import SentenceTransformer

        monkeypatch.setattr(registry, "_not_convertible", set())
        yield SentenceTransformer(tiny, device="cpu")
        skembed.unload_models()

    @pytest.mark.parametrize("error", [RuntimeError("no such operation"), OSError("no space"), KeyboardInterrupt()])
    def test_of_a_loaded_model_that_cannot_be_converted(self, error, given, temporary, monkeypatch):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(openvino_conversion, "_trace_and_save", fail)
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                embed(["a"], model=given, **FLOAT32)
        else:
            with pytest.warns(UserWarning, match="torch runs it instead"):
                embed(["a"], model=given, **FLOAT32)
        assert list(temporary.iterdir()) == []

    @pytest.mark.slow
    def test_of_a_loaded_model_in_a_process_that_was_killed(self, given, temporary):
        killed = temporary / "skembed-openvino-killed"
        (killed / "model").mkdir(parents=True)
        os.utime(killed, (0, 0))
        embed(["a"], model=given, **FLOAT32)
        assert len(list(temporary.iterdir())) == 1
        assert not killed.exists()

    @pytest.mark.slow
    def test_but_what_another_process_uses(self, given, temporary):
        embed(["a"], model=given, **FLOAT32)
        (used,) = temporary.iterdir()
        os.utime(used, (0, 0))
        given[0].model.get_input_embeddings().weight.data.mul_(-1)
        held = registry._loaded.copy()
        embed(["a"], model=given, **FLOAT32)
        assert len(held) == 1
        assert used.exists()

    @slow
    def test_by_a_process_that_was_killed_while_it_kept_a_compiled_model(self, run, caches):
        """Of many texts in float32, which the child of the trials does not keep."""
        kill = """
import os, signal
replace = os.replace
os.replace = lambda a, b: os.kill(os.getpid(), signal.SIGKILL) if str(b).endswith(".blob") else replace(a, b)
"""
        embed_in_float32 = "print(json.dumps(embedded(TEXTS, dtype='float32')))"
        with pytest.raises(AssertionError, match="-9"):
            run(kill + embed_in_float32)
        folder = folder_of(caches)
        n_kept = len(list(folder.glob("*.blob")))
        assert len(list(folder.glob("*.unfinished"))) == 1
        run(embed_in_float32)
        assert list(folder.glob("*.unfinished")) == []
        assert len(list(folder.glob("*.blob"))) > n_kept

    @slow
    def test_by_a_process_that_was_killed_while_it_converted(self, run, new_caches):
        kill = """
import os, signal
os.rename = lambda a, b: os.kill(os.getpid(), signal.SIGKILL)
"""
        with pytest.raises(AssertionError, match="-9"):
            run(kill + TestAModelThatEndsItsProcess.PRINT)
        openvino = new_caches / "skembed" / "openvino"
        assert len(list(openvino.glob(".unfinished-*"))) == 1
        run(TestAModelThatEndsItsProcess.PRINT)
        assert list(openvino.glob(".unfinished-*")) == []


@slow
@pytest.mark.parametrize("n_threads", ["1", "2"])
@pytest.mark.parametrize("params", ["", ", layers=1", ", pooling=['mean', 'cls']"])
def test_a_model_with_gates_embeds_many_texts_in_any_number_of_threads(params, n_threads, run, model_folder, texts):
    (vectors, _), _ = run(f"print(json.dumps(embedded(TEXTS{params})))", OMP_NUM_THREADS=n_threads)
    assert np.isfinite(vectors).all()


@pytest.mark.slow
def test_a_trained_model_runs_the_code_that_was_tried_before_training(tiny, monkeypatch):
    from sentence_transformers import SentenceTransformer

    given, children, original = SentenceTransformer(tiny, device="cpu"), [], openvino_trial._try_in_children
    monkeypatch.setattr(openvino_trial, "_outcomes", {})
    monkeypatch.setattr(
        openvino_trial, "_try_in_children", lambda *asked: (children.append(asked), original(*asked))[1]
    )
    for _ in range(3):
        embed(["a"], model=given, **FLOAT32)
        given[0].model.get_input_embeddings().weight.data.mul_(1.1)
    assert len(children) == 1
    skembed.unload_models()


@pytest.mark.slow
def test_the_child_compiles_and_runs_what_it_is_asked_to(tiny, tmp_path, monkeypatch, capfd):
    backend = registry.get_model(Settings(model=tiny, backend="torch")).backend
    openvino_conversion.convert(backend, tmp_path / "model")
    found = conversion(tmp_path / "model")
    trials = openvino_backend.trials_of(found, is_private=True)
    asked = [{"layers": layers, "dtype": "float32", "hint": "LATENCY", "n_threads": 1} for layers in ([3], [7])]
    capfd.readouterr()
    openvino_trial.try_here(str(tmp_path / "model"), asked, trials._examples(), 100.0)
    started, fine, failed = [line for line in capfd.readouterr().out.splitlines() if line]
    assert (started, fine) == ('skembed-trial:"started"', "skembed-trial:null")
    assert "IndexError" in failed
    skembed.unload_models()


@pytest.mark.slow
def test_the_child_stores_what_a_first_call_needs(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_trial, "_outcomes", {})
    backend = registry.get_model(Settings(model=tiny, backend="torch")).backend
    openvino_conversion.convert(backend, tmp_path / "model")
    found = conversion(tmp_path / "model")
    first, rare = openvino_backend.usual_variants(found, "float32")
    assert openvino_trial.import_blob(tmp_path / "model", first) is not None
    assert not (tmp_path / "model" / f"{rare.key()}.blob").exists()
    skembed.unload_models()


@pytest.mark.slow
def test_a_child_that_cannot_store_anything_tries_as_before(tiny, tmp_path, monkeypatch, capfd):
    backend = registry.get_model(Settings(model=tiny, backend="torch")).backend
    openvino_conversion.convert(backend, tmp_path / "model")
    trials = openvino_backend.trials_of(conversion(tmp_path / "model"), is_private=True)
    asked = [{"layers": [3], "dtype": "float32", "hint": "LATENCY", "n_threads": 1}]
    monkeypatch.setattr(openvino_trial, "_write_blob", raise_no_space)
    capfd.readouterr()
    openvino_trial.try_here(str(tmp_path / "model"), asked, trials._examples(), 100.0)
    assert capfd.readouterr().out.split() == ['skembed-trial:"started"', "skembed-trial:null"]
    skembed.unload_models()


def raise_no_space(*_):
    raise OSError("No space left on device")


def conversion(folder: Path):
    found = openvino_folder.read_conversion(folder)
    assert found is not None
    return found


class TestTheOutcomeOfAChild:
    """The end of a child becomes a reason, which is stored only if a repetition would end the same way."""

    @pytest.mark.parametrize(
        ("status", "said", "lasts"),
        [
            (-signal.SIGFPE, "with SIGFPE", True),
            (-signal.SIGKILL, "with SIGKILL", False),
            (-99, "with signal 99", True),
            (0xC0000094, "with status 0xc0000094", True),
            (1, r"did not end within 120 s \(status 1\)", True),
            (0, r"\(status 0\)", False),
        ],
        ids=str,
    )
    def test_names_how_it_ended(self, status, said, lasts):
        outcome = openvino_trial._outcome_of_death(status, 120.0)
        assert re.search(said, outcome.reason)
        assert outcome.lasts == lasts

    @pytest.mark.parametrize(("executable", "said"), [("", "is empty"), ("/opt/reviews/app", "app is not a Python")])
    def test_without_a_python_nothing_is_started(self, executable, said, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "executable", executable)
        monkeypatch.setattr(openvino_trial, "_run_child", lambda *_: pytest.fail("it was started"))
        outcomes = openvino_trial._try_in_child(tmp_path, [{}, {}], {})
        assert [(said in outcome.reason, outcome.lasts) for outcome in outcomes] == [(True, False)] * 2

    def test_a_python_that_does_not_start_is_named_with_its_error(self, tmp_path, monkeypatch):
        monkeypatch.setattr(openvino_trial, "_run_child", lambda *_: (3, b"", b"a line\nno encodings\n"))
        (outcome,) = openvino_trial._try_in_child(tmp_path, [{}], {})
        assert "ended with status 3: no encodings" in outcome.reason
        assert not outcome.lasts

    def test_an_error_of_the_system_is_reported(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError("too many processes")

        monkeypatch.setattr(openvino_trial, "_run_child", refuse)
        (outcome,) = openvino_trial._try_in_child(tmp_path, [{}], {})
        assert "too many processes" in outcome.reason

    def test_a_child_that_takes_too_long_is_ended(self):
        status, printed, _ = openvino_trial._run_child({"path": sys.path}, 0.01)
        assert (status, printed) == (1, b"")
