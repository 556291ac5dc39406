package dev.halter.cli.heads;

import dev.halter.cli.OptionValue;
import dev.halter.cli.WrongUseException;
import dev.halter.files.JsonObject;
import dev.halter.patching.EffectsFile;
import dev.halter.patching.EffectsPicture;
import dev.halter.patching.GridFile;
import java.nio.file.Path;
import java.util.OptionalDouble;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

@Command(
    name = "picture",
    description = "Draws effects as a heat map, of heads and MLPs or of a grid by layer and token.")
final class PictureCommand implements Callable<Integer> {
  @Parameters(
      paramLabel = "EFFECTS",
      description = "Effects that halter heads patch or halter heads grid has written.")
  Path effects;

  @Option(
      names = "--out",
      paramLabel = "F",
      required = true,
      description = "Picture to write, as .svg, .png or .html by its ending.")
  Path out;

  @Option(
      names = "--value",
      paramLabel = "V",
      defaultValue = "relative",
      description =
          "relative (in %% of the reference's logit) or delta_logit (default: ${DEFAULT-VALUE}).")
  String value;

  @Option(
      names = "--limit",
      paramLabel = "X",
      description =
          "End of the colour scale, to compare pictures or to see weak heads beside strong MLPs"
              + " (default: the largest effect).")
  Double limit;

  @Override
  public Integer call() {
    EffectsPicture.Value shown = OptionValue.of(EffectsPicture.Value.class, "--value", value);
    OptionValue.requirePicture("--out", out);
    if (limit != null && !(limit > 0 && limit < Double.POSITIVE_INFINITY)) {
      throw new WrongUseException("--limit is " + limit + ", must be a number above 0");
    }
    OptionalDouble end = limit == null ? OptionalDouble.empty() : OptionalDouble.of(limit);
    JsonObject json = JsonObject.read(effects);
    if (GridFile.isOne(json)) {
      EffectsPicture.of(GridFile.of(json), shown, end).write(out);
    } else {
      EffectsPicture.of(EffectsFile.of(json), shown, end).write(out);
    }
    return 0;
  }
}
