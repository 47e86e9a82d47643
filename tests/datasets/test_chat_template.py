"""A model's own chat template, rendered as transformers does: what templates of several families
use."""

import json
import shutil

import pytest
from tokenizers import processors

from swbench_data.cli import InputError
from swbench_data.model_folder import ModelFolder
from tiny_models import CHAT_TEMPLATE


@pytest.fixture
def render(tiny_model, tmp_path):
    """render(template, **tokenizer_config) -> text of one user's turn, "hi"."""

    def call(template, user="hi", **tokenizer_config):
        shutil.copytree(tiny_model, tmp_path / "tiny", dirs_exist_ok=True)
        (tmp_path / "tiny/chat_template.jinja").write_text(template)
        if tokenizer_config:
            (tmp_path / "tiny/tokenizer_config.json").write_text(json.dumps(tokenizer_config))
        return ModelFolder(tmp_path / "tiny").render(user)

    return call


@pytest.mark.parametrize(
    "template, text",
    [
        ("{{ messages[0]['role'] }}: {{ messages[0].content }}", "user: hi"),
        ("{% if add_generation_prompt %}go{% endif %}", "go"),
        # Qwen and Llama 3 ask for tools, Mistral for documents: there are none.
        (
            "{%- if tools %}tools{%- elif tools is defined and tools is none %}none{%- endif %}",
            "none",
        ),
        ("{%- if documents is none and not builtin_tools is defined %}none{%- endif %}", "none"),
        # Llama 3.2 asks whether there is a clock, others just use it; the day stays the same.
        (
            "{%- if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}",
            "26 Jul 2024",
        ),
        ("{{ strftime_now('%Y-%m-%d') }}", "2024-07-26"),
        ("{%- for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        (
            "{%- set ns = namespace(found=false) %}{%- for m in messages %}{%- set ns.found = "
            "true %}{%- endfor %}{{ ns.found }}",
            "True",
        ),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "hi!"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("a\n{% if true %}\n    b\n{% endif %}\nc", "a\n    b\nc"),  # trim_blocks, lstrip_blocks
        ("{{ messages[0].content | trim }}{{ messages[1:] | length }}", "hi0"),
    ],
)
def test_features(render, template, text):
    assert render(template) == text


def test_special_tokens(render):
    template = "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}"
    assert render(template) == "<|im_start|>|<|im_end|>|"  # by the ids of config.json
    assert (
        render(template, bos_token=None, eos_token={"content": "</s>"}, pad_token="<pad>")
        == "<|im_start|>|</s>|<pad>"
    )


@pytest.mark.parametrize(
    "template, words",
    [
        ("{{ raise_exception('Only\ntools') }}", "Only tools"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{% if %}", "Expected an expression"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ open('/etc/passwd') }}", "undefined"),
    ],
)
def test_refused(render, template, words):
    with pytest.raises(InputError) as error:
        render(template)
    assert (
        words in str(error.value)
        and "\n" not in str(error.value)
        and "chat_template.jinja" in str(error.value)
    )


@pytest.mark.parametrize("spelled", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_one_bos(tiny_model, tmp_path, spelled, added):
    """Whether the template spells BOS out, the tokenizer adds it, or both: it stands there once.
    Where neither does there is none."""
    shutil.copytree(tiny_model, tmp_path / "tiny")
    model = ModelFolder(tmp_path / "tiny")
    model.bos = model.tokenizer.token_to_id(
        "<|im_end|>"
    )  # a token that begins no turn of this template
    model.template = (
        "{{ bos_token }}" if spelled else ""
    ) + "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    if added:
        model.tokenizer.post_processor = processors.TemplateProcessing(
            single=["<|im_end|>", "$A"], special_tokens=[("<|im_end|>", model.bos)]
        )
    ids = model.encode_prompt("the sky", " is", chat=True)
    assert ids.count(model.bos) == (1 if spelled or added else 0) and (ids[0] == model.bos) is (
        spelled or added
    )


def test_only_special_tokens_stop(tiny_model, tmp_path):
    """Some vocabularies have an ordinary token "</s>": HTML, not an end."""
    shutil.copytree(tiny_model, tmp_path / "tiny")
    path = tmp_path / "tiny/tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"]["</s>"] = len(document["model"]["vocab"])
    path.write_text(json.dumps(document))
    model = ModelFolder(tmp_path / "tiny")
    assert model.tokenizer.token_to_id("</s>") is not None and model.stop_ids == [1]
    assert model.template == CHAT_TEMPLATE
