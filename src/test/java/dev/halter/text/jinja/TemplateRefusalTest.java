package dev.halter.text.jinja;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.time.ZonedDateTime;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What is not supported says so, with its line; what would never end is ended. */
class TemplateRefusalTest {
  private static final Map<String, Object> VALUES =
      Map.of("s", "text", "xs", List.of(1, 2, 3), "m", Map.of("role", "user"));

  @ParameterizedTest
  @CsvSource(
      delimiter = '¦',
      value = {
        "{% include 'other' %} ¦ include",
        "{% extends 'other' %} ¦ extends",
        "{% import 'other' as o %} ¦ import",
        "{% block b %}{% endblock %} ¦ block",
        "{% with a = 1 %}{% endwith %} ¦ with",
        "{% for x in xs recursive %}{% endfor %} ¦ recursive",
        "{% raw %}never closed ¦ endraw",
        "{% set x = s|safe %} ¦ filter safe",
        "{{ s|safe|upper }} ¦ filter safe",
        "{{ 's' ~ s|safe }} ¦ filter safe",
        "{{ s|safe + 1 }} ¦ operand",
        "{{ s|escape }} ¦ filter escape",
        "{{ s|wordwrap }} ¦ filter wordwrap",
        "{{ s is sameas s }} ¦ test sameas",
        "{{ s.format(1) }} ¦ str.format",
        "{{ s.isalpha() }} ¦ str.isalpha",
        "{% if s.swapcase is defined %}{% endif %} ¦ str.swapcase",
        "{{ s.__class__ }} ¦ str.__class__",
        "{{ m.copy() }} ¦ dict.copy",
        "{{ m.update({}) }} ¦ dict.update",
        "{{ xs.append(1) }} ¦ list.append",
        "{{ xs.index(1) }} ¦ list.index",
        "{{ '%s' % s }} ¦ %",
        "{{ cycler('a', 'b') }} ¦ cycler",
        "{{ joiner(',') }} ¦ joiner",
        "{{ range(*xs) }} ¦ *",
        "{% macro f() %}{{ varargs }}{% endmacro %} ¦ varargs",
        "{% for x in xs %}{{ loop.cycle('a', 'b') }}{% endfor %} ¦ loop.cycle",
        "{{ xs[1, 2] }} ¦ several parts",
        "{{ {(1, 2): 3} }} ¦ key",
        "{{ {[1]: 2} }} ¦ unhashable type",
        "{% call s %}{% endcall %} ¦ call",
        "{% macro f(caller) %}{% endmacro %} ¦ caller",
        "{{ 9223372036854775807 + 1 }} ¦ 64 bits",
        "{{ 99999999999999999999 }} ¦ 64 bits",
        "{{ range(3) }} ¦ printing a range",
        "{{ m.items() }} ¦ printing a view",
        "{{ xs|map('string') }} ¦ printing a generator",
        "{{ range }} ¦ printing a function",
        "{{ namespace() }} ¦ printing a namespace",
        "{{ strftime_now('%Q') }} ¦ %Q",
        "{{ s.split('e', maxsplits=1) }} ¦ maxsplits",
        "{{ s|tojson(indent=2, bad=1) }} ¦ bad",
        "{{ '\\N{DASH}' }} ¦ \\N",
      })
  void whatIsNotSupportedIsNamedWithItsLine(String template, String named) {
    TemplateException refusal =
        assertThrows(TemplateException.class, () -> render("line one\n" + template));
    assertTrue(refusal.getMessage().contains(named), refusal.getMessage());
    assertEquals(2, refusal.line());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "{% set ns = namespace(t='aaaaaaaa') %}{% for i in range(100) %}"
            + "{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
        "{% set ns = namespace(t=[1]) %}{% for i in range(100) %}{% set ns.t = ns.t + ns.t %}"
            + "{% endfor %}",
        "{% set ns = namespace(t=[1]) %}{% for i in range(100) %}"
            + "{% set ns.t = [ns.t, ns.t] %}{% endfor %}"
            + "{{ ns.t }}",
        "{% set ns = namespace(t=[1]) %}{% for i in range(100) %}"
            + "{% set ns.t = [ns.t, ns.t] %}{% endfor %}"
            + "{{ ns.t == ns.t[:] ~ '' }}{{ ns.t|tojson }}",
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}"
            + "{% set ns.a = [ns.a, ns.a] %}"
            + "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
        "{% set ns = namespace(t=1) %}{% for i in range(9000) %}{% set ns.t = [ns.t] %}"
            + "{% endfor %}{{ ns.t }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{{ 'x' * 4000000000 }}",
        "{{ 'x' * 9000000000000000000 }}",
        "{{ ('x' * 100000) * 100000 }}",
        "{% set t = 'a' * 1000000 %}{% for i in range(1000) %}{{ (t ~ 'b') in t }}{% endfor %}",
        "{% set t = 'a' * 1000000 %}{{ t.replace('a', t) }}",
        "{% set t = 'a' * 1000000 %}{{ t.strip('b' * 1000000 ~ 'a') }}",
        "{% set t = 'a' * 100000 %}{{ t|list|join(t) }}",
        "{{ range(1000)|list|tojson(indent='x' * 100000) }}",
        "{{ range(99999)|list|tojson(separators=('x' * 100000, 'y')) }}",
        "{{ range(0, 100001) }}",
        "{{ range(-9223372036854775807, 9223372036854775807)|length }}",
        "{% for i in range(100000) %}{{ range(100000)|list|sort|reverse|list|length }}"
            + "{% endfor %}",
      })
  void whatWouldNotEndIsEnded(String template) {
    assertTimeoutPreemptively(
        Duration.ofSeconds(20),
        () -> assertThrows(TemplateException.class, () -> render(template)));
  }

  @ParameterizedTest
  @ValueSource(strings = {"(", "[", "{'a':", "not ", "-", "x if y else ", "a[", "f(", "x|d("})
  void deepNestingIsRefused(String opening) {
    String template = "{{ " + opening.repeat(100_000) + " }}";
    assertThrows(TemplateException.class, () -> render(template));
  }

  @ParameterizedTest
  @ValueSource(strings = {" + 1", " ~ 1", " or 1", "|string", " * 1", " < 1"})
  void longChainsAreAnsweredOrRefused(String link) {
    try {
      render("{{ 1" + link.repeat(100_000) + " }}");
    } catch (TemplateException expected) {
      // as good as an answer
    }
  }

  @Test
  void deepBlocksAreRefused() {
    String template = "{% if true %}".repeat(50_000) + "{% endif %}".repeat(50_000);
    assertThrows(TemplateException.class, () -> render(template));
  }

  @Test
  void anAbsurdlyLongTemplateIsRefused() {
    assertThrows(TemplateException.class, () -> render("x".repeat(2 << 20)));
  }

  @Test
  void aLongConversationIsNoHostileInput() {
    Map<String, Object> message = Map.of("role", "user", "content", "word ".repeat(20_000));
    Map<String, Object> values = Map.of("messages", java.util.Collections.nCopies(50, message));
    String template =
        "{% for m in messages[::-1] %}{% if '</think>' in m.content %}{% endif %}{{ m.role ~"
            + " m.content.split('</think>')[-1].strip('\\n') | trim }}{% endfor %}";
    String prompt = Template.parse(template).render(values, ZonedDateTime::now);
    assertEquals(50 * (4 + 99_999), prompt.length());
  }

  private static String render(String template) {
    return Template.parse(template).render(VALUES, ZonedDateTime::now);
  }
}
