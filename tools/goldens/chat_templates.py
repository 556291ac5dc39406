#!/usr/bin/env python3
"""Goldens for dev.halter.text: what transformers and jinja2 print for chat templates.

Writes src/test/resources/text/chat-templates.json from the template of the demo model and those
beside the output (templates/*.jinja, written for these tests with the constructs and the layout of
the family each is named after).

    python tools/goldens/chat_templates.py                    # the committed goldens
    python tools/goldens/chat_templates.py --templates DIR --out FILE   # other templates, e.g. real ones

The clock is fixed, so that two runs give the same file. Versions used are in the file.
"""

import argparse
import datetime
import json
import pathlib

import jinja2
import transformers
from transformers.utils import chat_template_utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESOURCES = ROOT / "src/test/resources/text"
DEMO = ROOT / "src/main/models/demo"
NOW = datetime.datetime(2026, 7, 4, 9, 5, 7)


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = FixedClock

TOKENS = {
    "llama-2": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "llama-3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "functionary": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "mistral": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "qwen": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
}


def turns(*contents, system=None):
    """Messages of user and assistant in turn, after a system message where there is one."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for i, content in enumerate(contents):
        messages.append({"role": "assistant" if i % 2 else "user", "content": content})
    return messages


ODD = "  Zażółć gęślą jaźń 🦙🐕\u200d🦺!\n\n\tIs 2 < 3 & \"so\" 'on'? {{ not a template }} {% nor this %}  \n"
CONVERSATIONS = {
    "one turn": turns("What is your favourite animal?"),
    "system and one turn": turns("Hi!", system="You are a llama."),
    "three turns": turns("Hi", "Hello, how can I help?", "What is 2+2?"),
    "five turns and system": turns("a", "b", "c", "d", "e", system="Be brief.\nBe kind."),
    "ends with the assistant": turns("Say yes.", "yes"),
    "system, ends with the assistant": turns("Say yes.", "yes", system="Answer."),
    "blanks, quotes and emoji": turns(ODD, ODD, ODD, system=ODD),
    "empty contents": turns("", "", "", system=""),
    "special tokens in the text": turns("<s>[INST] <|im_end|> <|eot_id|></s>", "x", "y"),
    "thoughts": turns("1+1?", "<think>\nEasy.\n</think>\n\n2", "And 2+2?", "<think>\nHm.\n</think>\n\n4", "Thanks"),
    "thoughts at the end": turns("1+1?", "<think>\nEasy.\n</think>\n\n2"),
    "thoughts without words": turns("1+1?", "<think>\n\n</think>\n\n2", "?", "</think>3"),
    "two users in a row": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "assistant first": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
    "system late": turns("a", "b") + [{"role": "system", "content": "s"}, {"role": "user", "content": "c"}],
    "system alone": [{"role": "system", "content": "s"}],
    "tool answer": turns("Weather?", "calling") + [{"role": "tool", "content": "sunny"}, {"role": "tool", "content": "warm"}],
    "wrapped tool answer": turns("Weather?", "calling", "<tool_response>\nsunny\n</tool_response>"),
    "calls": [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": " Ask. ",
            "tool_calls": [
                {"type": "function", "function": {"name": "weather", "arguments": {"place": "Łódź", "days": 2, "now": True}}},
                {"type": "function", "function": {"name": "python", "arguments": {"code": "1 < 2"}}},
            ],
        },
        {"role": "tool", "name": "weather", "content": "sunny"},
        {"role": "assistant", "content": "It is sunny.", "reasoning_content": "So it is."},
    ],
    "unknown role": [{"role": "narrator", "content": "Once upon a time"}],
    "no messages": [],
}
# Further variables, tried with a few conversations where a template knows them.
WITH_VARIABLES = ("one turn", "five turns and system", "thoughts", "tool answer", "no messages")
VARIABLES = [{"enable_thinking": False}, {"enable_thinking": True}, {"date_string": "01 Jan 2025"}]
VARIABLES += [{"thinking_budget": budget} for budget in (0, 600)]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather \"now\" at a place — in °C, <b>not</b> °F.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 1.5e-7}},
            "required": ["place"],
        },
    },
}
INTERPRETER = [TOOL, {"type": "code_interpreter"}]  # as functionary takes it


def tokens_of(name):
    for family, tokens in TOKENS.items():
        if name.startswith(family):
            return tokens
    return TOKENS["llama-2"] | {"pad_token": "<pad>"}


def demo_tokens():
    config = json.loads((DEMO / "tokenizer_config.json").read_text(encoding="utf-8"))
    return {name: token for name, token in config.items() if name in ("bos_token", "eos_token", "pad_token")}


def family(name, path, tokens):
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        source = json.loads(source)["chat_template"]
    cases = []
    for conversation, messages in CONVERSATIONS.items():
        tools = [{"tools": [TOOL, TOOL]}, {"tools": INTERPRETER}]
        choices = VARIABLES + tools if conversation in WITH_VARIABLES else []
        for variables in [{}] + choices:
            if not all(name in source for name in variables) or (
                variables.get("tools") == INTERPRETER and "code_interpreter" not in source
            ):
                continue
            for prompt in (False, True):
                case = {"conversation": conversation, "add_generation_prompt": prompt, "variables": variables}
                try:
                    rendered, _ = chat_template_utils.render_jinja_template(
                        [messages],
                        chat_template=source,
                        add_generation_prompt=prompt,
                        **({"tools": None} | tokens | variables),
                    )
                    case["expected"] = rendered[0]
                except Exception as e:  # the message is asserted only where the template raised it
                    case["error"] = str(e) if type(e) is jinja2.exceptions.TemplateError else None
                cases.append(case)
    return {"name": name, "special_tokens": tokens, "cases": cases}


# Small templates, each for one construct. Their variables are VALUES.
VALUES = {
    "s": " Hello, World ",
    "t": "a-b-c-d",
    "e": "",
    "u": "zażółć 🦙🐕\u200d🦺 ſß İI",
    "n": 7,
    "z": 0,
    "f": 2.5,
    "yes": True,
    "no": False,
    "nil": None,
    "xs": [3, 1, 2],
    "words": ["pear", "Apple", "fig"],
    "empty": [],
    "m": {"role": "user", "content": "hi", "items": "shadow", "n": 1},
    "rows": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "x", "c": {"d": 4}}],
    "nested": {"list": [1, [2, {"k": None}]], "text": "é\"\\\n\t\x01/<>&'"},
}
CONSTRUCTS = r"""
plain text only
{{ s }}|{{ s|trim }}|{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}
{{ t.strip('ad') }}|{{ t.lstrip('a-') }}|{{ t.rstrip('d-') }}|{{ t|trim('a') }}
{{ t.split('-') }}|{{ t.split('-', 1) }}|{{ t.split('-')[-1] }}|{{ t.split('x') }}|{{ t.rsplit('-', 1) }}|{{ t.rsplit('-') }}
{{ s.split() }}|{{ ' a  b c '.split() }}|{{ ' a  b c '.split(None, 1) }}|{{ ''.split() }}|{{ ''.split('x') }}
{{ 'a\nb\r\nc\n'.splitlines() }}|{{ 'a\nb'.splitlines(true) }}
{{ s.upper() }}|{{ s.lower() }}|{{ s|upper }}|{{ s|lower }}|{{ u.upper() }}|{{ u.lower() }}
{{ "they're bill's".title() }}|{{ "they're bill-x (y".title() }}|{{ "they're bill-x (yZ"|title }}|{{ 'hELLO wORLD'.capitalize() }}|{{ 'hELLO'|capitalize }}
{{ t.startswith('a-') }}|{{ t.startswith('b') }}|{{ t.endswith('-d') }}|{{ t.endswith(('x', 'd')) }}|{{ e.startswith('') }}
{{ t.replace('-', '+') }}|{{ t.replace('-', '+', 2) }}|{{ t|replace('-', '+', 1) }}|{{ 'aaa'.replace('aa', 'b') }}|{{ n|replace(7, 8) }}
{{ t.find('b') }}|{{ t.find('x') }}|{{ t.rfind('-') }}|{{ u.find('ß') }}|{{ t.count('-') }}|{{ 'aaaa'.count('aa') }}
{{ '-'.join(words) }}|{{ words|join(', ') }}|{{ xs|join }}|{{ rows|join('/', attribute='b') }}
{{ t.removeprefix('a-') }}|{{ t.removesuffix('-d') }}|{{ t.removeprefix('x') }}
{{ t[0] }}|{{ t[-1] }}|{{ t[1:3] }}|{{ t[::-1] }}|{{ t[:-2] }}|{{ t[4:1:-1] }}|{{ t[::2] }}|{{ t[99] is defined }}|{{ t[5:99] }}
{{ u|length }}|{{ u[7] }}|{{ u[::-1] }}|{{ u[6:9] }}|{{ u|list }}|{{ u|first }}|{{ u|last }}
{{ xs[0] }}|{{ xs[-1] }}|{{ xs[::-1] }}|{{ xs[1:] }}|{{ xs[:1] }}|{{ xs[9] is defined }}|{{ xs[-9:9] }}|{{ xs[2:0:-1] }}|{{ xs[9::-2] }}|{{ xs.0 }}
{{ xs|length }}|{{ xs|count }}|{{ e|length }}|{{ m|length }}|{{ nothing|length }}
{{ xs|first }}|{{ xs|last }}|{{ empty|first }}|{{ empty|last is defined }}|{{ m|first }}
{{ xs|sort }}|{{ xs|sort(reverse=true) }}|{{ words|sort }}|{{ words|sort(case_sensitive=true) }}|{{ rows|sort(attribute='b')|map(attribute='a')|list }}
{{ xs|reverse|list }}|{{ t|reverse }}|{{ words|map('upper')|list }}|{{ rows|map(attribute='b')|join }}|{{ rows|map(attribute='c.d', default='-')|list }}
{{ rows|selectattr('a', 'gt', 1)|list }}|{{ rows|selectattr('b', 'equalto', 'x')|map(attribute='a')|list }}|{{ rows|rejectattr('b', 'eq', 'x')|list|length }}
{{ rows|selectattr('c', 'defined')|list|length }}|{{ rows|selectattr('c')|list|length }}|{{ xs|select('odd')|list }}|{{ xs|reject('odd')|list }}|{{ [0, 1, '', 'a']|select|list }}
{% if rows|selectattr('a', 'equalto', 99) %}a generator is true{% endif %}{% set g = xs|select('odd') %}{{ g|list }}{{ g|list }}
{% set g = xs|map('string') %}{{ g|first }}{{ g|list }}|{{ not empty|select|reverse }}|{{ not empty|reverse }}
{{ m.role }}|{{ m['role'] }}|{{ m.missing }}|{{ m['missing'] is defined }}|{{ m.get('role') }}|{{ m.get('x') }}|{{ m.get('x', 5) }}|{{ m['items'] }}
{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}{% for k in m %}{{ k }},{% endfor %}{% for k in m.keys() %}{{ k }}{% endfor %}{{ m.values()|list }}|{{ m.items()|list }}
{% for k, v in m|items %}{{ k }}={{ v }};{% endfor %}{{ nothing|items|list }}
{{ m }}|{{ xs }}|{{ (1, 'a') }}|{{ (1,) }}|{{ () }}|{{ {} }}|{{ {'a': [1, none, true]} }}|{{ nested }}
{{ 'it\'s' }}|{{ ["it's"] }}|{{ ['say "hi"'] }}|{{ ['both \' and "'] }}|{{ ['tab\t nl\n é 🦙 \x7f \u200b \xa0'] }}
{{ nested|tojson }}
{{ nested|tojson(indent=2) }}|{{ empty|tojson(indent=2) }}|{{ {}|tojson(indent=4) }}
{{ u|tojson }}|{{ u|tojson(ensure_ascii=true) }}|{{ m|tojson(sort_keys=true) }}|{{ m|tojson(separators=(',', ':')) }}
{{ [1, 1.0, 1e20, 1.5e-7, 0.0001, 123456789012345680.0, 1e16, true, none, 'x']|tojson }}
{{ 1.0 }}|{{ 2.50 }}|{{ 1e3 }}|{{ 1e16 }}|{{ 1e-5 }}|{{ 0.1 + 0.2 }}|{{ 1/3 }}|{{ 4/2 }}|{{ -0.0 }}|{{ 123456.789e3 }}
{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 2 ** 10 }}|{{ 1 + 2 * 3 }}|{{ (1 + 2) * 3 }}|{{ 10 - 3 - 2 }}|{{ n * f }}|{{ 2 ** 3 ** 2 }}
{{ -n }}|{{ +n }}|{{ -n|abs }}|{{ -(n) }}|{{ - 3 + 5 }}|{{ not n }}|{{ not not n }}|{{ true + true }}
{{ 'a' ~ 1 ~ none ~ true ~ 2.0 }}|{{ 'a' + 'b' }}|{{ 'ab' * 3 }}|{{ 3 * 'ab' }}|{{ 'x' * -1 }}|{{ [1] + [2] }}|{{ (1,) + (2,) }}
{{ 1 == 1.0 }}|{{ true == 1 }}|{{ 'a' == 'a' }}|{{ 'a' != 'b' }}|{{ 1 == '1' }}|{{ none == false }}|{{ [1, [2]] == [1, [2]] }}|{{ {'a': 1} == {'a': 1.0} }}|{{ (1,) == [1] }}
{{ 1 < 2 }}|{{ 1 < 2 < 3 }}|{{ 1 < 3 < 2 }}|{{ 2 >= 2 }}|{{ 'a' < 'b' }}|{{ 'Z' < 'a' }}|{{ 1.5 > 1 }}
{{ 'ell' in s }}|{{ 'xyz' not in s }}|{{ 1 in xs }}|{{ 9 not in xs }}|{{ 'role' in m }}|{{ 'x' in nothing }}|{{ not 'x' in t }}|{{ '' in t }}
{{ yes and 'a' }}|{{ no and 'a' }}|{{ no or 'b' }}|{{ yes or 'b' }}|{{ nil or e or 'c' }}|{{ n and z }}
{{ 'a' if yes else 'b' }}|{{ 'a' if no else 'b' }}|[{{ 'a' if no }}]|{{ 'a' if no else 'b' if no else 'c' }}|{{ ('a' if yes else 'b') ~ 'c' }}|{{ 1 if yes and not no else 2 }}
{{ s is defined }}|{{ nothing is defined }}|{{ nothing is undefined }}|{{ nil is none }}|{{ s is none }}|{{ nil is defined }}|{{ nothing is none }}|{{ s is not none }}|{{ not s is none }}
{{ s is string }}|{{ n is string }}|{{ m is mapping }}|{{ xs is mapping }}|{{ xs is iterable }}|{{ s is iterable }}|{{ n is iterable }}|{{ nothing is iterable }}
{{ xs is sequence }}|{{ s is sequence }}|{{ m is sequence }}|{{ n is sequence }}|{{ nothing is sequence }}|{{ m.items() is sequence }}|{{ m.items() is iterable }}|{{ range(3) is sequence }}
{{ n is number }}|{{ f is number }}|{{ yes is number }}|{{ s is number }}|{{ yes is boolean }}|{{ n is boolean }}|{{ n is integer }}|{{ yes is integer }}|{{ f is float }}|{{ f is integer }}
{{ yes is true }}|{{ no is false }}|{{ 1 is true }}|{{ n is odd }}|{{ n is even }}|{{ n is divisibleby 7 }}|{{ n is divisibleby(2) }}|{{ 'a' is in t }}|{{ n is eq 7 }}|{{ n is ne 7 }}|{{ n is lt 8 }}|{{ n is ge 7 }}
{{ 'abc' is lower }}|{{ 'aBc' is lower }}|{{ 'ABC' is upper }}|{{ '12' is upper }}|{{ range is callable }}|{{ s is callable }}|{{ nothing is callable }}
{{ nothing|default('d') }}|{{ e|default('d') }}|{{ e|default('d', true) }}|{{ nil|default('d') }}|{{ m.x|d('d') }}|{{ nothing|default }}|{{ 0|default(5, boolean=true) }}
{{ '42'|int }}|{{ 'x'|int }}|{{ 'x'|int(5) }}|{{ 3.9|int }}|{{ -3.9|int }}|{{ ' 12 '|int }}|{{ '2.5'|int }}|{{ '2.5'|float }}|{{ 3|float }}|{{ 'x'|float }}|{{ n|string ~ '!' }}
{{ none }}|{{ true }}|{{ false }}|{{ True }}|{{ False }}|{{ None }}|[{{ nothing }}]|[{{ nothing|trim }}]|[{{ nothing ~ 'x' }}]
{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }};{% endfor %}
{% for x in xs %}{{ loop.previtem }}<{{ x }}<{{ loop.nextitem }};{% if loop.previtem is defined and loop.previtem > x %}down{% endif %}{% endfor %}
{% for x in xs if x > 1 %}{{ x }}{{ loop.length }}{{ loop.last }}{% else %}none{% endfor %}|{% for x in xs if x > 9 %}{{ x }}{% else %}none{% endfor %}|{% for x in empty %}{% else %}e{% endfor %}
{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}|{% for x in xs %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% else %}never{% endfor %}
{% for x in xs %}{% for y in words %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}|{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}|{% for c in 'añ🦙' %}{{ c }}.{% endfor %}
{% for x in range(3) %}{{ x }}{% endfor %}|{% for x in range(2, 5) %}{{ x }}{% endfor %}|{% for x in range(5, 0, -2) %}{{ x }}{% endfor %}|{{ range(4)|list }}|{{ range(9)[2] }}|{{ range(0)|list }}|{{ range(5, 2)|list }}|{{ range(9)[1:7][::-2]|list }}
{% set x = 1 %}{% for i in xs %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}|{% if yes %}{% set x = 9 %}{% endif %}{{ x }}
{% set ns = namespace(a=1, b=none) %}{% for i in xs %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}|{{ ns.b }}|{{ ns.c is defined }}|{{ ns['a'] }}
{% set a, b = 1, 'x' %}{{ a }}{{ b }}|{% set c = 1, 2 %}{{ c }}|{% set (d, e) = (3, 4) %}{{ d }}{{ e }}
{% set x %}text {{ n }} {% endset %}[{{ x }}]|{% set x | upper | trim %} text {{ n }} {% endset %}[{{ x }}]
{% if n > 10 %}a{% elif n > 5 %}b{% elif n > 1 %}c{% else %}d{% endif %}|{% if e %}a{% else %}b{% endif %}|{% if nothing %}a{% elif nil %}b{% endif %}
{% macro hi(name, mark='!') %}Hi {{ name }}{{ mark }}{% endmacro %}{{ hi('you') }}|{{ hi('you', '?') }}|{{ hi(mark='.', name='me') }}|{{ hi() }}|{{ hi('a') | upper }}
{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(4) }}|{% macro g(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ g(1) }}{{ g(1, 2) }}
{% set outer = 'o' %}{% macro h() %}{{ outer }}{{ n }}{% set inner = 1 %}{% endmacro %}{{ h() }}{{ inner is defined }}
{{ dict(a=1, b='x') }}|{{ {'a': 1}['a'] }}|{{ {'a': 1}.a }}|{{ [1, 2, ][1] }}|{{ {'a': 1, } }}
{# a comment #}x{# {{ n }} #}|{% raw %}{{ n }}{% if %}{% endraw %}|{{ '{{' }}|{{ '%}' }}|{{ "}}" }}
{{ 'a' 'b' "c" }}|{{ 'tab\tnl\nq\'q"' }}|{{ "\u00e9\x41\U0001F999" }}|{{ 'back\\slash \d' }}|{{ '\101' }}
{{ {'a': {'b': 1}}.a.b }}|{{ [[1, 2], [3]][0][1] }}|{{ 'x'.upper().lower() }}|{{ ('a' ~ 'b').upper() }}|{{ s.strip().split(',')[0]|lower }}
{% generation %}{{ n }}{% set gone = 1 %}{% endgeneration %}{{ gone is defined }}
{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%d %H:%M:%S %p %I %j %A %a %B %y %%') }}|{{ strftime_now('%-d/%-m') }}
{{ raise_exception('Only ' ~ n ~ ' allowed') }}
{% if no %}{{ raise_exception('x') }}{% endif %}fine
{{ nothing.attribute }}
{{ nothing + 'x' }}
{{ nil + 'x' }}
{{ 'x' + 1 }}
{{ n.x.y }}
{{ nil.x is defined }}|{{ n.x is defined }}|{{ xs.x is defined }}
{{ m.role.missing is defined }}|{{ m.missing is defined and m.missing.more is defined }}
{{ s() }}
{{ n|length }}
{{ 1 in 5 }}
{{ 1 in 'abc' }}
{{ 1 < 'a' }}
{{ 1 / 0 }}
{% for x in n %}{% endfor %}
{% for x in nil %}{% endfor %}
{% set a, b = [1] %}
{% set m.role = 'x' %}
{{ range(100001)|length }}
{{ hi( }}
{{ 'open }}
{% if yes %}
{% endif %}
{% for x in xs %}{% endif %}{% endfor %}
{{ }}
{{ n
{# open
{{ 1 +}}
{{ n | nofilter }}
{{ n is notest }}
{{ a is b is c }}
{% break %}
{{ ''.join([1]) }}
{{ t.split('') }}
{{ xs[::0] }}
{{ n[1:] }}
{{ m[1:] }}
{{ nothing|int }}
{{ xs in m }}
{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}
{{ xs.append(4) }}
{{ s|safe }}|{{ n|safe }}|{{ "<'&>"|safe + "<'&\">" + "'" }}|{{ "<" + "<"|safe }}|{{ "<" + ("&"|safe + "<") }}
"""
# Templates with line breaks, where whitespace control acts.
LAYOUTS = [
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "a\n  {% if yes %}  \n  b\n  {% endif %}\n  c",
    "a\n  {%- if yes -%}  \n  b  \n  {%- endif -%}  \n  c\n\n",
    "a\n  {%+ if yes +%}\n  b\n  {%+ endif +%}\n  c\n",
    "  {{ n }}  \n  {{- n -}}  \n  {{ n }}\n",
    "  {{+ n }}\n|",
    "x {% if yes %} y {% endif %} z\n \n {% if yes %}{% endif %}\n!",
    "{% for x in xs %}\n  {{ x }}\n{% endfor %}\nend",
    "{%- for x in xs %}\n  {{- x }}\n{%- endfor %}\nend",
    "{% for x in xs -%}\n\n  {{ x }}\n\n{%- endfor %}\nend",
    "a {# c #}\n  {# c #}\nb\n  {#- c -#}  \nd {#+ c +#}\ne",
    "a\n  {% raw %}\n {{ x }} \n  {% endraw %}\nb\n {%- raw -%} \n {{ y }} \n {%- endraw -%} \n c",
    "\n\n{% set x = 1 %}\n\n{{ x }}\n\n",
    "a\r\n{% if yes %}\r\nb\r{% endif %}\r\nc\r\n",
    "{% if yes %}{% if yes %}\n\n{% endif %}\n{% endif %}\n.",
    "\t{% if yes %}\t\n\u00a0{% if yes %}\u2003\n{% endif %}{% endif %}",
    "{{ 'a\nb' }}\n{%- set x = 'c\n  d' %}\n{{ x }}",
    "{% if yes\n   and n > 1\n%}\nmulti\n{% endif %}",
    "{{-n-}} {{ n-1 }} {{n -1}} {{ [n,-1] }}",
    "{%if yes%}{{n}}{%endif%}{%-if yes-%} x {%-endif-%}",
    "  {%- set a = 1 -%}  \n  {%- set b = 2 -%}  \n{{ a }}{{ b }}  ",
    "{{ {'a': {'b': 2}}['a']['b'] }}{{ {} }}{{ {'x': {}} }}",
    "text ending in newline\n\n\n",
    "{{ n }}\n",
    "{% if no %}\n{% else %}\n  {{ n }}\n{% endif %}",
    "",
    "\n",
]


def construct(environment_template):
    case = {"template": environment_template}
    try:
        compiled = chat_template_utils._compile_jinja_template(environment_template)
        case["expected"] = compiled.render(**VALUES)
    except Exception as e:
        case["error"] = str(e) if type(e) is jinja2.exceptions.TemplateError else None
    return case


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--templates", type=pathlib.Path, default=RESOURCES / "templates")
    parser.add_argument("--out", type=pathlib.Path, default=RESOURCES / "chat-templates.json")
    arguments = parser.parse_args()
    lines = CONSTRUCTS.strip("\n").split("\n")
    families = [
        family(path.stem, path, tokens_of(path.stem))
        for path in sorted(arguments.templates.glob("*.jinja"))
    ]
    families.append(family("demo", DEMO / "tokenizer_config.json", demo_tokens()))
    goldens = {
        "made_with": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "now": NOW.isoformat(),
        "conversations": CONVERSATIONS,
        "families": families,
        "values": VALUES,
        "constructs": [construct(template) for template in lines + LAYOUTS],
    }
    text = json.dumps(goldens, ensure_ascii=False, indent=1)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    cases = sum(len(f["cases"]) for f in goldens["families"])
    print(f"{arguments.out}: {len(goldens['families'])} templates, {cases} cases, {len(lines + LAYOUTS)} constructs")


if __name__ == "__main__":
    main()
