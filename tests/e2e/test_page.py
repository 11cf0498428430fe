# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: what a visitor sees, does and is told."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import threading
import time

import httpx
import pytest

from conftest import SLOW, TIERS, Server, with_template, zero_model

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed; see scripts/setup.sh")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not CHROMIUM or not DRIVER, reason="no chromium or no chromedriver here; scripts/setup.sh installs both"
)
STORY = ", there was a little girl named Lily"


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for a in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(a)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_window_size(1280, 800)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def slower_model(tmp_path_factory):
    """43 M parameters: an answer of 500 tokens takes seconds, so that a visitor can act in the middle of it."""
    return zero_model(tmp_path_factory.mktemp("model") / "slower.gguf", 6, 768, 2048)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, slower_model):
    """One slot."""
    s = Server(tmp_path_factory.mktemp("data"), ["--slots", "1", "--threads", "1"], model=slower_model)
    yield s
    assert s.stop() == 0, s.log[-3000:]
    s.books().check()


class Page:
    """The page, opened anew: nothing remembered, unless kept."""

    def __init__(self, driver, url, keep=False, ready="left"):
        self.driver = driver
        driver.switch_to.default_content()
        if not keep:
            driver.get(url)
            driver.execute_script("localStorage.clear()")
        driver.get_log("browser")  # forgets what was before
        driver.get(url)
        self.until(lambda: ready in self.text("#left"), "the quota")

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        """Of the last one there is, as it is in the document; "" if none."""
        return self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].at(-1)?.textContent ?? ''", selector
        )

    def until(self, true, what, seconds=10):
        WebDriverWait(self.driver, seconds * SLOW, 0.02).until(lambda _: true(), f"{what} did not come")
        return self

    def set(self, **fields):
        if not self.one("#settings").is_displayed():
            self.one("#gear").click()
        for name, value in fields.items():
            field = self.one("#" + name)
            field.clear()
            field.send_keys(value, Keys.TAB)
        return self

    def enter(self, text):
        self.one("#text").send_keys(text, Keys.ENTER)
        return self

    def ended(self):
        return self.until(lambda: self.text("#send") == "Send", "the end")

    def severe(self):
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]


@contextlib.contextmanager
def slot_held(server):
    """The only slot, taken through the API by a long request."""
    body = {"prompt": "a", "stream": True, "max_tokens": 500, "ignore_eos": True}
    with server.client() as client, client.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.status_code == 200
        server.wait_for(lambda m: m["baton_leases_active"] == 1, what="the lease")
        yield


def test_loads(chromium, server):
    """Nothing in the console, the model's name and the quota shown, nothing fetched from elsewhere."""
    p = Page(chromium, server.url)
    assert p.severe() == []
    assert p.text("#model") == "stories260K" and "anonymous" in p.text("#left")
    assert p.one("#gauge").get_attribute("aria-valuenow") == "100"
    urls = chromium.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert urls and all(u.startswith(server.url) for u in urls), urls
    assert chromium.execute_script("return document.activeElement.id") == "text"


def test_policy(chromium, server):
    """The header names the page's own script and style by hash, and a script that comes later does not run."""
    policy = httpx.get(server.url + "/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert "unsafe" not in policy and "frame-ancestors" not in policy
    p = Page(chromium, server.url)
    chromium.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')"
    )
    time.sleep(0.2)
    assert chromium.execute_script("return window.ran") is None
    assert any("Content Security Policy" in m for m in p.severe())


def test_complete(chromium, server):
    """A prompt and Enter: the known greedy text streams in, its cost is shown and the gauge goes down."""
    p = Page(chromium, server.url).set(temp="0", max="200")
    before = p.text("#left")
    chromium.execute_script(
        "window.steps = 0; new MutationObserver(m => { window.steps += m.length; })"
        ".observe(document.querySelector('#log'), {subtree: true, characterData: true})"
    )
    p.enter("Once upon a time").until(lambda: p.text(".answer").startswith(STORY), "the story").ended()
    assert p.text(".prompt") == "Once upon a time"
    assert chromium.execute_script("return window.steps") > 10, "the text did not come in pieces"
    for words in ("200 tokens", "of device time", "lease 60 s", "ended at the token limit"):
        assert words in p.text(".note"), p.text(".note")
    p.until(lambda: p.text("#left") != before, "the charge")
    assert p.text("#status").startswith("200 tokens"), "what a screen reader is told"
    length = len(p.text(".prompt") + p.text(".answer"))
    p.one(".note button").click()  # Go on
    p.until(lambda: len(p.all(".turn")) == 2, "a second answer").ended()
    assert len(p.text(".prompt")) == length and p.text(".answer")
    assert p.severe() == []


def test_chat(chromium, server):
    """Shift+Enter makes a line, the mode and the key are remembered, and turns add up to a conversation."""
    p = Page(chromium, server.url).set(key="key-free", max="8")
    p.one("input[value=chat]").click()
    box = p.one("#text")
    box.send_keys("Hello", Keys.SHIFT, Keys.ENTER)
    box.send_keys(Keys.NULL)
    assert box.get_attribute("value") == "Hello\n" and not p.all(".turn")
    p.enter("there").ended()
    assert [e.text for e in p.all(".turn.user")] == ["Hello\nthere"] and p.text(".assistant")
    p.enter("And then?").ended()
    assert len(p.all(".turn")) == 4
    p = Page(chromium, server.url, keep=True)
    assert p.one("input[value=chat]").is_selected() and p.one("#key").get_attribute("value") == "key-free"
    assert p.text("#left").startswith("free")


def test_chat_is_first_where_the_model_has_a_format(chromium, tmp_path):
    """... unless the visitor chose the other mode before."""
    template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    s = Server(tmp_path / "data", model=with_template(tmp_path / "chat.gguf", template))
    try:
        p = Page(chromium, s.url)
        p.until(lambda: p.one("input[value=chat]").is_selected(), "the mode")
        p.enter("Hi").ended()
        assert [e.text for e in p.all(".turn.user")] == ["Hi"]
        p.one("input[value=complete]").click()
        p = Page(chromium, s.url, keep=True)
        p.until(lambda: p.text("#model") == "chat", "the model's name")
        assert p.one("input[value=complete]").is_selected()
    finally:
        s.stop()


def test_model_output_is_text(chromium, server):
    """Markup in prompts, answers and errors is shown, never obeyed."""
    p = Page(chromium, server.url).set(max="8")
    evil = "<img src=x onerror=alert(1)><b>bold</b>"
    p.enter(evil).ended()
    assert p.text(".prompt") == evil and not p.all("#log img") and not p.all("#log b")
    chromium.execute_script(
        "const said = JSON.stringify({error: {message: arguments[0]}});"
        "window.fetch = async () => new Response(said, {status: 400})",
        evil,
    )
    p.enter("again").until(lambda: evil in p.text(".error"), "the error").ended()
    assert not p.all("#log img") and not p.all("#log b")
    chunk = json.dumps({"choices": [{"text": evil}]})
    chromium.execute_script(
        "const said = arguments[0];"
        "window.fetch = async path => new Response(path === 'v1/completions' ? said : '{}')",
        f"data: {chunk}\n\ndata: [DONE]\n\n",
    )
    p.enter("once more").until(lambda: p.text(".answer") == evil, "the answer").ended()
    assert not p.all("#log img") and not p.all("#log b")


def test_bad_key(chromium, server):
    p = Page(chromium, server.url).set(key="nobody's key")
    p.until(lambda: p.text("#left") == "key not known", "the gauge's word")
    p.enter("Once").until(lambda: "API key is not known" in p.text(".error"), "the error").ended()
    p.set(key="key-pro").until(lambda: p.text("#left").startswith("pro"), "the quota of the right key")
    p.enter("Once").until(lambda: p.text(".answer"), "an answer").ended()


def test_key_needed(chromium, start):
    """A server that wants a key says so before and after the first prompt, and a key makes it good."""
    s = start("--require-key")
    p = Page(chromium, s.url, ready="key needed").set(max="4")
    p.enter("Once").until(lambda: "wants an API key" in p.text(".error"), "the error").ended()
    p.set(key="\u00e9l\u00e8ve").until(lambda: p.text("#left") == "key not known", "the word for a wrong key")
    p.set(key="key-free").until(lambda: p.text("#left").startswith("free"), "the quota")
    p.enter("Once").until(lambda: p.text(".answer"), "an answer").ended()


def test_queue_full(chromium, tmp_path, slower_model):
    """Where no more may wait, the page says when to try again."""
    tiers = {**TIERS, "anonymous": {**TIERS["anonymous"], "queue": 1}}
    s = Server(tmp_path / "data", ["--slots", "1", "--threads", "1"], model=slower_model, tiers=tiers)
    try:
        with slot_held(s), s.client(None) as other:
            body = {"prompt": "a", "stream": True, "max_tokens": 4}
            with other.stream("POST", "/v1/completions", json=body) as waiting:
                s.wait_for(lambda m: m["baton_queue_depth"] == 1, what="the waiting")
                p = Page(chromium, s.url)
                p.enter("word").until(lambda: p.text(".error"), "the error").ended()
                assert waiting.status_code == 200
        assert "Try again in 1 s." in p.text(".error"), p.text(".error")
    finally:
        s.stop()


def test_quota_used_up(chromium, server):
    """The tiny tier: the last answer is cut short and says so; the next is refused with the time of the reset."""
    p = Page(chromium, server.url).set(key="key-tiny", max="400")
    for _ in range(12):
        p.one("#fresh").click()
        p.enter("Once upon a time").ended()
        if p.all(".error"):
            break
    error = p.text(".error")
    assert "quota" in error and "filled again at " in error and " in 2" in error, error
    assert p.one("#gauge").get_attribute("aria-valuenow") == "0"
    assert p.one("#gauge").get_attribute("class") == "low"


def test_stop(chromium, narrow):
    """A long answer shows what is left of its lease; Stop ends it in the server, too."""
    p = Page(chromium, narrow.url).set(max="4000", lease="30", temp="0")
    before = narrow.ended("cancelled")
    p.enter("word").until(lambda: p.text("#send") == "Stop", "the button")
    narrow.wait_for(lambda m: m["baton_leases_active"] == 1, what="the lease")
    p.until(lambda: "of 30 s left" in p.text(".note"), "the lease")
    p.one("#send").click()
    p.ended()
    assert p.text(".note").startswith("stopped")
    narrow.wait_for(
        lambda m: m['baton_requests_total{finish="cancelled"}'] == before + 1 and m["baton_leases_active"] == 0,
        what="the cancelling",
    )
    assert p.severe() == []


def test_queue_position(chromium, narrow):
    """Behind a long request the page says its place; when the slot is free the answer comes."""
    p = Page(chromium, narrow.url).set(max="4")
    with slot_held(narrow):
        p.enter("word").until(lambda: p.text(".note").startswith("place 1 in the queue"), "the position")
        assert p.text("#status").startswith("place 1 in the queue")
    p.until(lambda: "waited" in p.text(".note"), "the answer").ended()


@pytest.mark.parametrize("sandbox", ["", 'sandbox="allow-scripts"'])
def test_frame(chromium, server, sandbox):
    """In a page of another origin; where the frame has no origin and no storage of its own, with a key only."""

    class Host(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = f'<!doctype html><iframe {sandbox} src="{server.url}/" width="900" height="600"></iframe>'
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode() if self.path == "/" else b"")

        def log_message(self, *_):
            pass

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    try:
        chromium.get_log("browser")
        chromium.get(f"http://localhost:{host.server_port}/")
        chromium.switch_to.frame(chromium.find_element(By.TAG_NAME, "iframe"))
        p = Page.__new__(Page)
        p.driver = chromium
        if not sandbox:
            p.until(lambda: "left" in p.text("#left"), "the quota")
        p.set(temp="0", max="16", key="key-free")
        p.until(lambda: p.text("#left").startswith("free"), "the quota of the key")
        p.enter("Once upon a time").until(lambda: p.text(".answer").startswith(STORY), "the story").ended()
        assert sandbox or p.severe() == []
    finally:
        chromium.switch_to.default_content()
        host.shutdown()


def test_narrow_screen(chromium, server):
    """On a phone nothing is cut off sideways, and the page does not jump while text comes."""
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        p = Page(chromium, server.url).set(max="60")
        place = "const r = document.querySelector('#send').getBoundingClientRect(); return [r.x, r.y, r.width]"
        before = chromium.execute_script(place)
        p.enter("Once upon a time").ended()
        assert chromium.execute_script(place) == before
        assert chromium.execute_script("return document.documentElement.scrollWidth") == 390
        assert chromium.execute_script("return document.documentElement.scrollHeight") == 844
        main = chromium.execute_script(
            "const m = document.querySelector('main'); return m.scrollHeight - m.scrollTop - m.clientHeight"
        )
        assert main < 2, "the end of the answer is out of sight"
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_loading(chromium, tmp_path, slower_model):
    """While the model loads the page says so, keeps the prompt, and answers it when the model is there."""
    s = Server(tmp_path / "data", model=slower_model, wait=False)
    try:
        assert s.listening.wait(20 * SLOW)
        while not s.children():
            assert s.process.poll() is None, s.log
        engine = s.engine_pid()
        os.kill(engine, signal.SIGSTOP)  # holds it where it is
        p = Page(chromium, s.url).set(max="4")
        p.until(lambda: p.text("#model").startswith("loading model"), "the state")
        p.enter("Once upon a time").until(lambda: p.text(".note").startswith("loading model"), "the reason to wait")
        os.kill(engine, signal.SIGCONT)
        p.until(lambda: "of device time" in p.text(".note"), "the answer").ended()
        p.until(lambda: p.text("#model") == "slower", "the model's name")
    finally:
        s.stop()


def test_server_gone(chromium, start):
    s = start()
    p = Page(chromium, s.url)
    assert s.stop() == 0, s.log[-3000:]
    p.enter("word").until(lambda: "not reachable" in p.text(".error"), "the error").ended()
    p.until(lambda: p.text("#left") == "not reachable", "the gauge's word")
