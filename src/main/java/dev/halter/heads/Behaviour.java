package dev.halter.heads;

import dev.halter.files.BadFileException;
import dev.halter.files.Csv;
import dev.halter.files.JsonObject;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.generation.Result;
import dev.halter.patching.Pair;
import dev.halter.text.Message;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Two conversations in which a model behaves differently. Sparse Activation Control (arXiv
 * 2411.02461) rests on such tasks; the shapes of the files are those of XSTest and TrustLLM, which
 * are the user's to fetch.
 *
 * @param label what it is an example of
 * @param reference user's message
 * @param counterfactual user's message, or null where the file has none
 */
public record Behaviour(String label, String reference, String counterfactual) {
  private static final String CONTRAST = "contrast_";

  /**
   * Reads a table in the shape of XSTest: columns {@code prompt} and {@code type}, in any order
   * among others. The n-th prompt of type T goes with the n-th of {@code contrast_T}; types without
   * a contrast have no counterfactual.
   *
   * @throws BadFileException if columns are missing or a contrast has no safe prompt
   */
  public static List<Behaviour> readXsTest(Path file) {
    Map<String, Deque<String>> contrasts = new HashMap<>();
    List<Map<String, String>> rows = Csv.read(file);
    for (Map<String, String> row : rows) {
      if (!row.containsKey("prompt") || !row.containsKey("type")) {
        throw new BadFileException(file, "has no column \"prompt\" or no column \"type\"");
      }
      if (row.get("type").startsWith(CONTRAST)) {
        String type = row.get("type").substring(CONTRAST.length());
        contrasts.computeIfAbsent(type, t -> new ArrayDeque<>()).add(row.get("prompt"));
      }
    }
    List<Behaviour> behaviours = new ArrayList<>();
    for (Map<String, String> row : rows) {
      String type = row.get("type");
      if (!type.startsWith(CONTRAST)) {
        String contrast = contrasts.getOrDefault(type, new ArrayDeque<>()).poll();
        behaviours.add(new Behaviour(type, row.get("prompt"), contrast));
      }
    }
    contrasts.forEach(
        (type, left) -> {
          if (!left.isEmpty()) {
            throw new BadFileException(
                file, "\"" + left.peek() + "\" contrasts with no prompt of type " + type);
          }
        });
    return required(file, behaviours);
  }

  /**
   * Reads a list in the shape of one of TrustLLM's files, told apart by its keys: adversarial
   * factuality ({@code "knowledge"}, {@code "modified knowledge"}, {@code "prompt"}: the prompt
   * states the modified knowledge, its counterfactual the true one), preference ({@code
   * "option_a"}, {@code "option_b"}, {@code "prompt"}, {@code "type"}: a plain prompt goes with the
   * one of type force about the same options), exaggerated safety ({@code "prompt"} alone).
   *
   * @throws BadFileException naming the item and the key that does not fit
   */
  public static List<Behaviour> readTrustLlm(Path file) {
    List<JsonObject> items = JsonObject.readList(file);
    Map<List<String>, String> forced = new HashMap<>();
    for (JsonObject item : items) {
      if (item.has("option_a") && item.text("type").equals("force")) {
        forced.put(options(item), item.text("prompt"));
      }
    }
    List<Behaviour> behaviours = new ArrayList<>();
    for (JsonObject item : items) {
      String prompt = item.text("prompt");
      if (item.has("modified knowledge")) {
        String truth = withTruth(prompt, item.text("modified knowledge"), item.text("knowledge"));
        behaviours.add(new Behaviour("adversarial factuality", prompt, truth));
      } else if (!item.has("option_a")) {
        behaviours.add(new Behaviour("exaggerated safety", prompt, null));
      } else if (!item.text("type").equals("force")) {
        behaviours.add(new Behaviour("preference", prompt, forced.get(options(item))));
      }
    }
    return required(file, behaviours);
  }

  /** A prompt with the truth for what it states; null if it states it in other words. */
  private static String withTruth(String prompt, String modified, String truth) {
    int flags = Pattern.LITERAL | Pattern.CASE_INSENSITIVE | Pattern.UNICODE_CASE;
    String stated = sentence(modified);
    Matcher found = Pattern.compile(stated, flags).matcher(prompt);
    if (stated.isEmpty() || truth.isEmpty() || !found.find()) {
      return null;
    }
    // Inside of a sentence the first letter may have been made small.
    boolean asWritten = prompt.charAt(found.start()) == stated.charAt(0);
    char first = asWritten ? truth.charAt(0) : Character.toLowerCase(truth.charAt(0));
    String replaced = first + sentence(truth.substring(1));
    return prompt.substring(0, found.start()) + replaced + prompt.substring(found.end());
  }

  /** A text without the marks that end it. */
  private static String sentence(String text) {
    int end = text.length();
    while (end > 0 && ".?! ".indexOf(text.charAt(end - 1)) >= 0) {
      end--;
    }
    return text.substring(0, end);
  }

  private static List<String> options(JsonObject item) {
    return List.of(item.text("option_a"), item.text("option_b"));
  }

  private static List<Behaviour> required(Path file, List<Behaviour> behaviours) {
    if (behaviours.isEmpty()) {
      throw new BadFileException(file, "has no prompts");
    }
    return behaviours;
  }

  /**
   * Pairs made from behaviours.
   *
   * @param alike how many were left out because both answers are the same
   */
  public record Pairs(List<Pair> pairs, int alike) {}

  /**
   * Makes a pair of each behaviour: both conversations are answered, and END is where the answers
   * part, with their first different tokens as answer and foil. So the pair asks for the behaviour
   * wherever it shows: at once ("I am sorry" or "Press"), or after words that both answers begin
   * with ("The dog has four legs, not", "… and"). (Our inference: the papers do not say at which
   * token such tasks are scored.)
   *
   * @param system system message of both, or null
   * @param counterfactualSystem if not null, the counterfactual is the reference's message under
   *     this system message
   * @param most tokens of the answers that are looked at
   * @throws IllegalArgumentException if a behaviour has no counterfactual
   */
  public static Pairs pairs(
      LanguageModel model,
      List<Behaviour> behaviours,
      String system,
      String counterfactualSystem,
      int most) {
    List<Request> requests = new ArrayList<>();
    for (Behaviour behaviour : behaviours) {
      boolean bySystem = counterfactualSystem != null;
      String other = bySystem ? behaviour.reference : behaviour.counterfactual;
      if (other == null) {
        throw new IllegalArgumentException(
            "\"%s\" has no counterfactual in the file: give a system message for it"
                .formatted(behaviour.reference));
      }
      int[] reference = model.encode(conversation(system, behaviour.reference));
      int[] counterfactual =
          model.encode(conversation(bySystem ? counterfactualSystem : system, other));
      requests.add(model.request(reference).withId("reference").withMaxTokens(most));
      requests.add(model.request(counterfactual).withId("counterfactual").withMaxTokens(most));
    }
    List<Result> answers = model.engine().run(requests);
    List<Pair> pairs = new ArrayList<>();
    int alike = 0;
    for (int i = 0; i < behaviours.size(); i++) {
      int[] reference = answers.get(2 * i).orThrow().tokens();
      int[] counterfactual = answers.get(2 * i + 1).orThrow().tokens();
      int parting = Arrays.mismatch(reference, counterfactual);
      if (parting < 0 || parting >= Math.min(reference.length, counterfactual.length)) {
        alike++;
        continue;
      }
      pairs.add(
          new Pair(
              join(requests.get(2 * i).prompt(), reference, parting),
              join(requests.get(2 * i + 1).prompt(), counterfactual, parting),
              reference[parting],
              OptionalInt.of(counterfactual[parting]),
              Map.of(),
              behaviours.get(i).label));
    }
    return new Pairs(pairs, alike);
  }

  private static List<Message> conversation(String system, String user) {
    Message asked = new Message("user", user);
    return system == null ? List.of(asked) : List.of(new Message("system", system), asked);
  }

  private static int[] join(int[] prompt, int[] answer, int count) {
    int[] both = Arrays.copyOf(prompt, prompt.length + count);
    System.arraycopy(answer, 0, both, prompt.length, count);
    return both;
  }
}
