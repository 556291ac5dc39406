package dev.halter.text.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.ZonedDateTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Filters, blocks and dictionaries that few templates use; right is what Jinja2 3.1 prints. */
class ConstructsTest {
  @ParameterizedTest
  @CsvSource(
      delimiter = '¦',
      quoteCharacter = '`',
      value = {
        "{{ none|selectattr('a')|list }} ¦ []",
        "{{ none|map('upper')|list }} ¦ []",
        "{{ 0|select|list }} ¦ []",
        "{{ ''|reject('defined')|list }} ¦ []",
        "{{ false|rejectattr('x', 'equalto', 1)|list }} ¦ []",
        "{{ none|map(attribute='x')|list }} ¦ []",
        "{{ undef|selectattr('a')|list }} ¦ []",
        "{% for t in none|selectattr('type', 'equalto', 'x') %}x{% else %}none{% endfor %} ¦ none",
        "{{ {1: 'a', 2.5: 'b', true: 'c', none: 'd', 'k': 'e'} }} ¦ {1: 'c', 2.5: 'b', None: 'd', 'k': 'e'}",
        "{{ {0: 'a', false: 'b', 0.0: 'c'} }} ¦ {0: 'c'}",
        "{{ {1: 'a'}[1.0] }}{{ {1: 'a'}[true] }}{{ {1.0: 'a'}[1] }}{{ {none: 'n'}[none] }} ¦ aaan",
        "{{ {1: 'a'}.get(1) }}{{ {1: 'a'}.get(2, 'z') }}{{ {true: 'a'}.get(1) }} ¦ aza",
        "{{ 1 in {1: 2} }}{{ true in {1: 2} }}{{ '1' in {1: 2} }}{{ none in {none: 1} }} ¦ TrueTrueFalseTrue",
        "{{ {1: 'a', none: 'b', true: 'c', 1.5: 'd'}|tojson }} ¦ {\"1\": \"c\", \"null\": \"b\", \"1.5\": \"d\"}",
        "{{ {2: 'a', 1: 'b', 10: 'c'}|tojson(sort_keys=true) }} ¦ {\"1\": \"b\", \"2\": \"a\", \"10\": \"c\"}",
        "{{ {1: 'a'} == {1.0: 'a'} }}{{ {1: 'a'} == {true: 'a'} }}{{ {1: 'a'} == {'1': 'a'} }} ¦ TrueTrueFalse",
        "{% for k, v in {0: 'x', 512: 'y'}.items() %}{{ k }}={{ v }};{% endfor %} ¦ 0=x;512=y;",
        "{{ {0: 'x', 512: 'y'}.keys()|list }} ¦ [0, 512]",
        "{{ {3: 'x'}[4] is defined }} ¦ False",
        "{{ {2: 'b', 1: 'a'}|dictsort }} ¦ [(1, 'a'), (2, 'b')]",
        "{{ d|dictsort }} ¦ [('A', 3), ('b', 1), ('c', 2)]",
        "{{ d|dictsort(true) }} ¦ [('A', 3), ('b', 1), ('c', 2)]",
        "{{ d|dictsort(false, 'value') }} ¦ [('b', 1), ('c', 2), ('A', 3)]",
        "{{ d|dictsort(by='value', reverse=true) }} ¦ [('A', 3), ('c', 2), ('b', 1)]",
        "{{ rs|groupby('c') }} ¦ [('A', [{'c': 'A', 'v': 2}, {'c': 'a', 'v': 4}]), ('b', [{'c': 'b', 'v': 1}, {'c': 'B', 'v': 3}])]",
        "{{ rs|groupby('c', case_sensitive=true) }} ¦ [('A', [{'c': 'A', 'v': 2}]), ('B', [{'c': 'B', 'v': 3}]), ('a', [{'c': 'a', 'v': 4}]), ('b', [{'c': 'b', 'v': 1}])]",
        "{% for g in rs|groupby('c') %}{{ g.grouper }}:{{ g.list|length }};{% endfor %} ¦ A:2;b:2;",
        "{% for k, items in rs|groupby('c') %}{{ k }}:{{ items|map(attribute='v')|join(',') }};{% endfor %} ¦ A:2,4;b:1,3;",
        "{{ rows|groupby('c', default='z') }} ¦ [('A', [{'c': 'A', 'v': 2}, {'c': 'a', 'v': 4}]), ('b', [{'c': 'b', 'v': 1}, {'c': 'B', 'v': 3}]), ('z', [{'v': 5}])]",
        "{{ (rs|groupby('c'))[0][0] }} ¦ A",
        "{{ []|groupby('c') }} ¦ []",
        "{{ rs|groupby(attribute='v')|length }} ¦ 4",
        "{{ 'one two, three_4 — Äpfel 模型 x²'|wordcount }} ¦ 6",
        "{{ ''|wordcount }} ¦ 0",
        "{{ 'café ét ½'|wordcount }} ¦ 4",
        "{% filter upper %}a {{ s }}{% endfilter %} ¦ A TEXT HERE",
        "{% filter upper|replace('A', 'b') %}a{{ s }}{% endfilter %} ¦ bTEXT HERE",
        "{% filter replace('a', 'b') %}aa{% set q = 1 %}{% endfilter %}{{ q is defined }} ¦ bbFalse",
        "{% macro box(t) %}[{{ t }}:{{ caller() }}]{% endmacro %}{% call box('x') %}in {{ s }}{% endcall %} ¦ [x:in text here]",
        "{% macro each(l) %}{% for i in l %}{{ caller(i) }},{% endfor %}{% endmacro %}{% call(i) each(xs) %}<{{ i }}>{% endcall %} ¦ <1>,<2>,<3>,",
        "{% macro each(l) %}{% for i in l %}{{ caller(i) }},{% endfor %}{% endmacro %}{% call(i, j=7) each(xs) %}{{ i + j }}{% endcall %} ¦ 8,9,10,",
        "{% macro f() %}{{ caller is defined }}{{ caller() if caller else 'no' }}{% endmacro %}{{ f() }}{% call f() %}yes{% endcall %} ¦ FalsenoTrueyes",
        "{% macro g() %}<{{ caller() }}>{% endmacro %}{% macro f() %}{% call g() %}in{% endcall %}{{ caller() }}{% endmacro %}{% call f() %}out{% endcall %} ¦ <in>out",
        "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ caller() }}{% endmacro %}{% call f(1, b=3) %}c{% endcall %} ¦ 13c",
      })
  void printsWhatJinjaPrints(String template, String expected) {
    assertEquals(expected, render(template));
  }

  @Test
  void wrongUseIsRefused() {
    for (String template :
        List.of(
            "{% macro f() %}x{% endmacro %}{% call f() %}c{% endcall %}",
            "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}",
            "{{ {[1]: 2} }}",
            "{{ d|dictsort(by='size') }}",
            "{{ xs|dictsort }}")) {
      assertThrows(TemplateException.class, () -> render(template), template);
    }
    TemplateException none =
        assertThrows(
            TemplateException.class,
            () -> render("{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}"));
    assertTrue(none.getMessage().contains("No caller defined"), none.getMessage());
  }

  private static String render(String template) {
    Map<String, Object> values = new LinkedHashMap<>();
    values.put("none", null);
    values.put("s", "text here");
    values.put("xs", List.of(1, 2, 3));
    values.put("rs", List.of(row("b", 1), row("A", 2), row("B", 3), row("a", 4)));
    values.put("rows", List.of(row("b", 1), row("A", 2), row("B", 3), row("a", 4), Map.of("v", 5)));
    Map<String, Object> d = new LinkedHashMap<>();
    d.put("b", 1);
    d.put("A", 3);
    d.put("c", 2);
    values.put("d", d);
    return Template.parse(template).render(values, ZonedDateTime::now);
  }

  private static Map<String, Object> row(String c, int v) {
    Map<String, Object> row = new LinkedHashMap<>();
    row.put("c", c);
    row.put("v", v);
    return row;
  }
}
