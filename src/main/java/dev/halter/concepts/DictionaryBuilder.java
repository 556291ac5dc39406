package dev.halter.concepts;

import dev.halter.device.DType;
import dev.halter.files.BadFileException;
import dev.halter.files.Json;
import dev.halter.files.Reason;
import dev.halter.generation.LanguageModel;
import dev.halter.generation.Request;
import dev.halter.model.Capture;
import dev.halter.model.Site;
import dev.halter.weights.Fingerprint;
import dev.halter.weights.SafetensorsWriter;
import dev.halter.weights.SafetensorsWriter.TensorSpec;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.Function;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;

/**
 * Makes a concept dictionary of some layers from texts: an atom is the {@link Direction} of a
 * concept's last-token activations at {@code hook_resid_post}, against those of a fixed random
 * choice of other concepts' texts.
 *
 * <p>Source: PaCE (arXiv 2406.04331), appendix B.2. It takes the differences to the texts of all
 * other concepts and says that it samples them; that one choice of texts serves all concepts is our
 * inference, and makes the work of a concept independent of how many there are.
 *
 * <p>Each concept's atoms go to a file beside the result as soon as they stand, and a builder that
 * is asked for the same again goes on from there. Memory does not grow with the number of concepts.
 */
public final class DictionaryBuilder {
  /** PaCE's way to ask for a concept. */
  public static final String TEMPLATE =
      "Consider the {concept} in the following scenario:\nScenario: {text}\nAnswer:";

  /** Prompts that are run together. */
  private static final int TOGETHER = 64;

  /**
   * What to build.
   *
   * @param firstLayer first block whose output gets a dictionary
   * @param lastLayer last one
   * @param template prompt, in which {concept} and {text} stand for those
   * @param limit most texts of a concept
   * @param others how many texts of other concepts a concept is set against
   * @param seed of that choice
   */
  public record Settings(
      int firstLayer,
      int lastLayer,
      Direction direction,
      String template,
      int limit,
      int others,
      long seed) {
    int layers() {
      return lastLayer - firstLayer + 1;
    }
  }

  private final LanguageModel model;
  private final Function<String, int[]> encode;
  private final Stimuli stimuli;
  private final Settings settings;
  private final List<Site> sites;
  private final int width;

  /**
   * A dictionary to be built.
   *
   * @param encode turns a prompt into tokens: as plain text, or through the chat template
   */
  public DictionaryBuilder(
      LanguageModel model, Function<String, int[]> encode, Stimuli stimuli, Settings settings) {
    int layers = model.config().nLayers();
    if (settings.firstLayer < 0
        || settings.firstLayer > settings.lastLayer
        || settings.lastLayer >= layers) {
      throw new IllegalArgumentException(
          "layers %d..%d; this model has layers 0..%d"
              .formatted(settings.firstLayer, settings.lastLayer, layers - 1));
    }
    if (stimuli.concepts().size() < 2) {
      throw new IllegalArgumentException(
          "one concept alone differs from nothing: name two or more");
    }
    this.model = model;
    this.encode = encode;
    this.stimuli = stimuli;
    this.settings = settings;
    this.sites =
        IntStream.rangeClosed(settings.firstLayer, settings.lastLayer)
            .mapToObj(layer -> new Site(Site.Kind.RESID_POST, layer))
            .toList();
    this.width = model.config().dModel();
  }

  /** A text of a concept. */
  private record Text(int concept, String text) {}

  /** A text's concept and its last-token activations, by layer. */
  private record Activation(int concept, List<float[]> layers) {}

  /**
   * Builds the dictionary.
   *
   * @param out safetensors with {@code atoms.<layer>} [concepts, d_model] F32 and their names
   * @param progress hears how many concepts are done
   * @return how many concepts were found done by an earlier run
   */
  public int build(Path out, IntConsumer progress) {
    List<Text> chosen = others();
    List<Activation> others = activations(chosen);
    try (Progress done = new Progress(out, key(chosen), stimuli.concepts().size())) {
      int found = done.concepts();
      progress.accept(found);
      for (int concept = found; concept < stimuli.concepts().size(); ) {
        List<Text> texts = new ArrayList<>();
        int first = concept;
        while (concept < stimuli.concepts().size()
            && (texts.isEmpty() || texts.size() < TOGETHER)) {
          for (String text : chosenTexts(concept)) {
            texts.add(new Text(concept, text));
          }
          concept++;
        }
        List<Activation> activations = activations(texts);
        for (int i = first; i < concept; i++) {
          done.append(atoms(i, activations, others));
        }
        progress.accept(concept);
      }
      done.finish();
      return found;
    }
  }

  /** As many of a concept's texts as the settings take. */
  private List<String> chosenTexts(int concept) {
    List<String> texts = stimuli.texts(concept);
    return texts.subList(0, Math.min(settings.limit, texts.size()));
  }

  /** Texts of random concepts, each of another one as far as there are as many. */
  private List<Text> others() {
    Random random = new Random(settings.seed);
    int concepts = stimuli.concepts().size();
    Set<Text> texts = new LinkedHashSet<>();
    int tries = 20 * settings.others;
    int[] order = random.ints(0, concepts).distinct().limit(concepts).toArray();
    for (int i = 0; i < tries && texts.size() < settings.others; i++) {
      int concept = order[i % concepts];
      List<String> ofConcept = chosenTexts(concept);
      texts.add(new Text(concept, ofConcept.get(random.nextInt(ofConcept.size()))));
    }
    return List.copyOf(texts);
  }

  private List<Activation> activations(List<Text> texts) {
    List<Request> requests = new ArrayList<>();
    for (Text text : texts) {
      String prompt =
          settings
              .template
              .replace("{concept}", stimuli.concepts().get(text.concept))
              .replace("{text}", text.text);
      int[] tokens = encode.apply(prompt);
      requests.add(
          Request.of(tokens)
              .withMaxTokens(0)
              .with(Capture.last(model.config(), sites, tokens.length)));
    }
    model.engine().run(requests).forEach(result -> result.orThrow());
    List<Activation> activations = new ArrayList<>();
    for (int i = 0; i < texts.size(); i++) {
      Map<Site, float[]> values = requests.get(i).capture().values();
      activations.add(
          new Activation(texts.get(i).concept, sites.stream().map(values::get).toList()));
    }
    return activations;
  }

  /** A concept's atoms [layers, d_model]. */
  private float[] atoms(int concept, List<Activation> activations, List<Activation> others) {
    List<Activation> ofConcept = activations.stream().filter(a -> a.concept == concept).toList();
    List<Activation> against = others.stream().filter(a -> a.concept != concept).toList();
    float[] atoms = new float[settings.layers() * width];
    IntStream.range(0, settings.layers())
        .parallel()
        .forEach(
            layer -> {
              try {
                float[] atom =
                    settings.direction.of(
                        ofConcept.stream().map(a -> a.layers.get(layer)).toList(),
                        against.stream().map(a -> a.layers.get(layer)).toList());
                System.arraycopy(atom, 0, atoms, layer * width, width);
              } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException(
                    "concept \"%s\", layer %d: %s"
                        .formatted(
                            stimuli.concepts().get(concept),
                            settings.firstLayer + layer,
                            e.getMessage()),
                    e);
              }
            });
    return atoms;
  }

  /** What the atoms depend on, hashed; the texts themselves by those that all are set against. */
  private String key(List<Text> chosen) {
    MessageDigest hash = Fingerprint.sha256();
    for (Object part : List.of(model.llama().fingerprint(), settings, stimuli.concepts(), chosen)) {
      hash.update((part + "\n").getBytes(StandardCharsets.UTF_8));
    }
    hash.update(Arrays.toString(encode.apply(settings.template)).getBytes(StandardCharsets.UTF_8));
    return HexFormat.of().formatHex(hash.digest());
  }

  /** The file of atoms done, [concepts, layers, d_model] after a line with the key. */
  private final class Progress implements AutoCloseable {
    private final Path out;
    private final Path file;
    private final FileChannel channel;
    private final int concepts;
    private final long start;
    private final int row = 4 * settings.layers() * width;
    private final ByteBuffer buffer = ByteBuffer.allocateDirect(row).order(ByteOrder.LITTLE_ENDIAN);

    Progress(Path out, String key, int concepts) {
      this.out = out;
      this.file = out.resolveSibling(out.getFileName() + ".part");
      this.concepts = concepts;
      byte[] header = (key + "\n").getBytes(StandardCharsets.UTF_8);
      this.start = header.length;
      try {
        this.channel =
            FileChannel.open(
                file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
        if (channel.size() < start) {
          channel.truncate(0);
          channel.write(ByteBuffer.wrap(header), 0);
        } else {
          ByteBuffer found = ByteBuffer.allocate(header.length);
          channel.read(found, 0);
          if (!Arrays.equals(found.array(), header)) {
            channel.close();
            throw new BadFileException(
                file,
                "is of another dictionary that was not finished: remove it, or name another --out");
          }
        }
        // A kill may have cut the last concept off.
        channel.truncate(start + Math.min(concepts, (channel.size() - start) / row) * row);
      } catch (IOException e) {
        throw cannotWrite(e);
      }
    }

    int concepts() {
      try {
        return (int) ((channel.size() - start) / row);
      } catch (IOException e) {
        throw cannotWrite(e);
      }
    }

    void append(float[] atoms) {
      buffer.clear();
      buffer.asFloatBuffer().put(atoms);
      try {
        channel.position(channel.size());
        while (buffer.hasRemaining()) {
          channel.write(buffer);
        }
      } catch (IOException e) {
        throw cannotWrite(e);
      }
    }

    void finish() {
      List<TensorSpec> specs = new ArrayList<>();
      for (int layer = settings.firstLayer; layer <= settings.lastLayer; layer++) {
        specs.add(new TensorSpec("atoms." + layer, DType.F32, concepts, width));
      }
      Map<String, String> metadata =
          Map.of(
              "format",
              "halter concepts",
              "fingerprint",
              model.llama().fingerprint(),
              "site",
              "blocks.{layer}.hook_resid_post",
              "template",
              settings.template,
              "names",
              Json.text(stimuli.concepts()));
      try (SafetensorsWriter writer = SafetensorsWriter.create(out, metadata, specs)) {
        float[] atom = new float[width];
        ByteBuffer bytes = ByteBuffer.allocateDirect(4 * width).order(ByteOrder.LITTLE_ENDIAN);
        for (int layer = 0; layer < settings.layers(); layer++) {
          for (int concept = 0; concept < concepts; concept++) {
            bytes.clear();
            channel.read(bytes, start + (long) concept * row + 4L * layer * width);
            bytes.flip();
            bytes.asFloatBuffer().get(atom);
            writer.write(specs.get(layer).name(), atom);
          }
        }
        channel.close();
      } catch (IOException e) {
        throw cannotWrite(e);
      }
      try {
        Files.delete(file);
      } catch (IOException e) {
        throw cannotWrite(e);
      }
    }

    private UncheckedIOException cannotWrite(IOException e) {
      return new UncheckedIOException(file + ": cannot be written: " + Reason.of(e), e);
    }

    @Override
    public void close() {
      try {
        channel.close();
      } catch (IOException e) {
        throw cannotWrite(e);
      }
    }
  }
}
