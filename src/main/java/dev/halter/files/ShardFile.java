package dev.halter.files;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/**
 * A file that holds a part of a result.
 *
 * @param job names the whole: input, model and settings; parts of one whole have the same
 */
public record ShardFile(Path file, Shard shard, String job) {
  /** In metadata and documents: what the part is of. */
  public static final String JOB = "shard_of";

  /**
   * What a file says of itself, by the values of its keys {@link Shard#KEY} and {@link #JOB}.
   *
   * @throws BadFileException if it is no shard
   */
  public static ShardFile of(Path file, Object shard, Object job) {
    if (!(shard instanceof String text && job instanceof String name)) {
      throw new BadFileException(file, "is no shard: none of its kind is written without --shard");
    }
    try {
      return new ShardFile(file, Shard.parse(text), name);
    } catch (IllegalArgumentException e) {
      throw new BadFileException(file, e.getMessage(), e);
    }
  }

  /**
   * Files in the order of their parts.
   *
   * @throws BadFileException naming the first that is a part of something else, or is there twice
   * @throws IllegalArgumentException naming a part that is missing
   */
  public static List<Path> inOrder(List<ShardFile> files) {
    ShardFile first = files.getFirst();
    int count = first.shard.count();
    Path[] order = new Path[count];
    for (ShardFile file : files) {
      if (file.shard.count() != count || !file.job.equals(first.job)) {
        throw new BadFileException(
            file.file,
            "is shard %s of another run than %s: the input, the model or a setting differs"
                .formatted(file.shard, first.file));
      }
      int index = file.shard.index();
      if (order[index] != null) {
        throw new BadFileException(
            file.file, "is shard %s, as is %s".formatted(file.shard, order[index]));
      }
      order[index] = file.file;
    }
    for (int index = 0; index < count; index++) {
      if (order[index] == null) {
        throw new IllegalArgumentException(
            "shard %s is missing: the files are %d of %d"
                .formatted(new Shard(index, count), files.size(), count));
      }
    }
    return Arrays.asList(order);
  }
}
