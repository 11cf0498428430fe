# SPDX-License-Identifier: Apache-2.0
"""The shape of the tree, as tests: layers, one foreign library a place, exported symbols, style."""

import collections
import graphlib
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# docs/design.md, "Layers". Siblings of one rank never meet.
RANK = {
    "include/baton": 0,
    "src/base": 1,
    "src/file": 2,
    "kernels": 2,
    "src/vocab": 3,
    "src/jinja": 3,
    "src/model": 3,
    "src/quota": 3,
    "src/sched": 3,
    "src/token": 4,
    "src/ledger": 4,
    "src/device": 4,
    "src/chat": 5,
    "src/engine": 5,
    "src/bench": 6,
    "src/front": 6,
    "src/api": 7,
    "src/http": 8,
    "src/cli": 9,
}
FOREIGN = {  # header or symbol prefix -> the folders (or the beginnings of files) that may use it
    r"\bsqlite3_\w+|<sqlite3\.h>": {"src/ledger/store_sqlite"},
    r"\bMHD_\w+|<microhttpd\.h>": {"src/http/"},
    r"<cuda\w*\.h>|\bcuda[A-Z]\w+\(|\bcublas\w+\(": {"kernels/", "src/device/", "src/bench/"},
    r"\bpcre2_\w+|<pcre2\.h>": {"src/token/"},
    r"\butf8proc_\w+|<utf8proc\.h>": {"src/token/", "src/jinja/"},
    r"<openssl/|\bEVP_\w+|\bCRYPTO_\w+": {"src/base/"},
}
BANNED = re.compile(
    r"\b(strcpy|strcat|sprintf|vsprintf|strtok|gets|localtime|gmtime|ctime|asctime|tmpnam|mktemp|"
    r"system|popen)\s*\("
)
ALLOC = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup)\s*\(")


def sources(*patterns):
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    return [ROOT / f for f in files if f and (ROOT / f).is_file() and any(f.endswith(p) for p in patterns)]


def folder_of(path):
    rel = path.relative_to(ROOT).as_posix()
    return max((f for f in RANK if rel.startswith(f + "/")), key=len, default=None)


def strip_comments(text):
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


CODE = [p for p in sources(".c", ".h", ".cu", ".cuh") if folder_of(p)]


def test_folders_include_only_lower_ranks():
    wrong = []
    for path in CODE:
        mine = folder_of(path)
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M):
            target = folder_of(ROOT / "include" / name) if name.startswith("baton/") else None
            target = target or folder_of(ROOT / "src" / name) or folder_of(ROOT / name)
            if target is None and "/" not in name:
                continue  # generated or local
            if target and target != mine and RANK[target] >= RANK[mine]:
                wrong.append(f"{path.relative_to(ROOT)} includes {name}")
    assert not wrong, "\n".join(wrong)


def test_one_foreign_library_one_place():
    wrong = []
    for path in CODE:
        text = strip_comments(path.read_text())
        for pattern, places in FOREIGN.items():
            found = re.search(pattern, text)
            if found and not path.relative_to(ROOT).as_posix().startswith(tuple(places)):
                wrong.append(f"{path.relative_to(ROOT)} uses {found.group()}")
    assert not wrong, "\n".join(wrong)


def test_kernels_export_only_bt_symbols():
    library = ROOT / "build" / "libbt_kernels.a"
    if not library.exists():
        pytest.skip("kernels are not built")
    out = subprocess.run(
        ["nm", "-g", "--defined-only", library], check=True, capture_output=True, text=True
    ).stdout
    names = [line.split()[2] for line in out.splitlines() if len(line.split()) == 3]
    # C++ marks kernels and their stubs by mangled names, which nobody else can use by accident.
    ours = ("bt_", "__odr_asan", "_Z", "DW.ref.")
    assert names and not [n for n in names if not n.startswith(ours)]


# Functions that only tests or bench programs call, and why they are there all the same.
ONLY_TESTS_CALL = {
    # the specification that a kernel is compared with
    "bt_activation_ref",
    "bt_norm_layer_ref",
    "bt_attention_ref",
    "bt_linear_ref",
    "bt_sample_ref",
    # switches of tests: an instruction set, memory or a socket that fails, a place without allocation
    "bt_isa_force",
    "bt_frame_fail_at",
    "bt_mem_fail_at",
    "bt_mem_failed",
    "bt_mem_guard_begin",
    "bt_mem_guard_end",
    # what must hold inside, checked by tests at any moment
    "bt_kv_check",
    "bt_ledger_check",
    "bt_cuda_matrix_unpack_f32",  # a packed matrix, exactly as it was
    # readers without a file, for made-up and fuzzed bytes
    "bt_gguf_open_memory",
    "bt_safetensors_open_memory",
    "bt_spm_open_memory",
    "bt_tiktoken_open_memory",
    "bt_text_open_json",
    "bt_tokenizer_open",
    # what a tokenizer's file said
    "bt_vocab_bos",
    "bt_vocab_eos_token",
    "bt_vocab_find",
    "bt_vocab_kind_of",
    "bt_vocab_unk",
}
HEAD = re.compile(  # of a function at the left margin, defined or declared
    r"^(?!(?:typedef|return|else)\b|#)(?:[\w*]+[ \n]|extern \"C\" )+?\**(\w+)\(([^;{}]*)\)[^;{}()]*([;{])", re.M
)


def test_nothing_is_unused():
    defined, calls, pasted = {}, [], set()  # pasted: bt__parts_##name, where a table's row gives the name
    for path in CODE:
        exported = path.suffix in (".h", ".cuh")  # what is static there is for others too

        def note(m):
            if m[3] == "{" and (exported or not re.search(r"\bstatic\b", m[0])):
                defined[m[1]] = path.relative_to(ROOT).as_posix()
            return m[3]

        text = strip_comments(path.read_text())
        calls += re.findall(r"\w+", HEAD.sub(note, text))
        pasted |= set(re.findall(r"\b(bt_\w+_)##", text))
    assert len(defined) > 1000
    calls = set(calls) | {"main", "__launch_bounds__"}
    unused = {f"{where}: {name}" for name, where in defined.items() if name not in calls | ONLY_TESTS_CALL}
    unused = {u for u in unused if not u.split(": ")[1].startswith(tuple(pasted))}
    assert not unused, "nothing but tests calls these: " + ", ".join(sorted(unused))
    stale = {name for name in ONLY_TESTS_CALL if name in calls or name not in defined}
    assert not stale, f"no exceptions any more: {stale}"


@pytest.mark.parametrize("folder", ["src/api", "src/front", "src/http"])
def test_files_call_in_no_circle(folder):
    text = {p.name: strip_comments(p.read_text()) for p in CODE if p.suffix == ".c" and folder_of(p) == folder}
    home = {
        m[1]: name
        for name, code in text.items()
        for m in HEAD.finditer(code)
        if m[3] == "{" and m[1].startswith("bt_") and not re.search(r"\bstatic\b", m[0])
    }
    assert len(home) > 30
    calls = {
        name: {home[w] for w in re.findall(r"\w+", code) if home.get(w, name) != name}
        for name, code in text.items()
    }
    graphlib.TopologicalSorter(calls).prepare()  # its CycleError names the circle


def test_no_enum_value_is_unused():
    text = "\n".join(strip_comments(p.read_text()) for p in CODE)
    count = collections.Counter(re.findall(r"\w+", text))
    unused = []
    for body in re.findall(r"\benum(?: \w+)? *\{([^}]*)\}", text):
        for value in body.split(",")[1:]:  # the first is the zero
            name = re.match(r"\s*(BT_\w+)\s*(=?)", value)
            if name and not name[2] and count[name[1]] == 1:  # "=": a number of somebody else's
                unused.append(name[1])
    unused.remove("BT__NFD")  # from BT_NORMAL_NFD, by its distance
    assert not unused, f"nothing uses these: {unused}"


@pytest.mark.parametrize(
    "path", sources(".c", ".h", ".py", ".sh", ".cu", ".cuh"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_style(path):
    rel = path.relative_to(ROOT).as_posix()
    text = path.read_text()
    lines = text.split("\n")
    head = "\n".join(lines[:3])
    assert "SPDX-License-Identifier: Apache-2.0" in head, "no SPDX line"
    limit = 100 if path.suffix == ".c" else 120
    too_long = [i + 1 for i, line in enumerate(lines) if len(line) > limit]
    assert not too_long, f"lines over {limit} columns: {too_long}"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b(?!\()", text) or rel.startswith(
        "tests/tree/"
    ), "TODO without a name"
    assert not re.search(r"^<<<<<<< |^>>>>>>> ", text, re.M)
    if path.suffix in (".c", ".h") and rel.startswith(("src/", "kernels/")):
        code = strip_comments(text)
        banned = BANNED.search(code)
        assert not banned, f"banned call {banned.group()}"
        if rel != "src/base/mem.c":
            raw = ALLOC.search(code)
            assert not raw, f"allocates outside base/mem.h: {raw.group()}"


def test_functions_fit_a_screen():
    wrong = []
    for path in CODE:
        if path.suffix != ".c":
            continue
        lines = path.read_text().split("\n")
        start = None
        for i, line in enumerate(lines):
            if line == "{":
                start = i
            elif line == "}" and start is not None:
                if i - start > 71 and not any("/* long:" in x for x in lines[max(0, start - 4) : start + 3]):
                    wrong.append(f"{path.relative_to(ROOT)}:{start + 1}: {i - start - 1} lines")
                start = None
    assert not wrong, "functions over 70 lines need /* long: why */\n" + "\n".join(wrong)


def test_files_stay_small():
    wrong = [str(p.relative_to(ROOT)) for p in CODE if p.read_text().count("\n") > 1200]
    assert not wrong, f"a second noun usually hides in files over 1,200 lines: {wrong}"


def test_no_large_blobs():
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\n")
    sizes = {f: (ROOT / f).stat().st_size for f in files if f and (ROOT / f).is_file()}
    large = [f for f, n in sizes.items() if n > 256 << 10 and not f.startswith(("models/", "tests/data/"))]
    assert not large, f"files over 256 KiB outside models/ and tests/data: {large}"
    assert sum(sizes.values()) < 40 << 20, "the repository has passed 40 MB"


def test_data_is_small_and_says_why():
    data = ROOT / "tests/data"
    reasons = (data / "README.md").read_text()
    sizes = {p.relative_to(data).as_posix(): p.stat().st_size for p in sources("") if data in p.parents}
    assert sum(sizes.values()) < 20_000_000, "tests/data has passed 20 MB"
    missing = [f for f, n in sizes.items() if n > 200_000 and f"`{f}`" not in reasons]
    assert not missing, f"files over 200 KB without a reason in tests/data/README.md: {missing}"
