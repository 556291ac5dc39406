package dev.halter.serving;

import dev.halter.pictures.Page;
import dev.halter.weights.Fingerprint;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The page for people: a chat without and with a plan that is put together there. It is one
 * document that speaks to this server alone, and whoever may not use that can still open it: it
 * asks for the key itself.
 */
final class PageRoutes {
  private static final String TYPE = "text/html; charset=utf-8";

  private final String page = Page.of("chat");
  private final String policy = policy(page);

  List<Route> routes() {
    return List.of(
        Route.open("GET", "/", this::page), Route.open("GET", "/index.html", this::page));
  }

  private void page(Exchange exchange) {
    exchange.setHeader("Content-Security-Policy", policy);
    exchange.setHeader("Referrer-Policy", "no-referrer");
    exchange.answer(200, TYPE, page);
  }

  /** What a browser lets the page do: run and look as it was written here, and ask this server. */
  private static String policy(String page) {
    return "default-src 'none'; script-src %s; style-src %s; connect-src 'self'; img-src data:;"
            .formatted(digests("script", page), digests("style", page))
        + " base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
  }

  private static String digests(String element, String page) {
    Matcher parts =
        Pattern.compile("<" + element + ">(.*?)</" + element + ">", Pattern.DOTALL).matcher(page);
    StringBuilder digests = new StringBuilder();
    while (parts.find()) {
      byte[] digest = Fingerprint.sha256().digest(parts.group(1).getBytes(StandardCharsets.UTF_8));
      digests.append("'sha256-").append(Base64.getEncoder().encodeToString(digest)).append("' ");
    }
    return digests.toString().strip();
  }
}
