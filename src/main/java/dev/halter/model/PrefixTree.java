package dev.halter.model;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.IntPredicate;

/**
 * Which pages hold the keys and values of which beginnings of sequences: a tree with a page for
 * each node, so that a path from the root spells tokens and what is done to them. Only a leaf may
 * hold less than a whole page, and of two children of one node neither begins with the other's
 * tokens.
 *
 * <p>Children lie in the order of their tokens: what has the longest beginning in common with a
 * text is one of its two neighbours, so a look-up takes a logarithm of their number.
 */
final class PrefixTree {
  /** A page and what it holds. */
  static final class Node {
    final Beginning tokens; // 1 to KvCache.PAGE, after those of the parents
    final int page;
    private final Node parent;
    private final TreeMap<Beginning, Node> children = new TreeMap<>();

    private Node(Node parent, Beginning tokens, int page) {
      this.parent = parent;
      this.tokens = tokens;
      this.page = page;
    }
  }

  /**
   * The longest known beginning of a text.
   *
   * @param full nodes from the root on, all of whose tokens it has
   * @param part the node that goes on for {@code partTokens} tokens more; null for none
   */
  record Match(List<Node> full, Node part, int partTokens) {
    int tokens() {
      return full.size() * KvCache.PAGE + partTokens;
    }
  }

  private final Node root = new Node(null, new Beginning(), -1);
  private final LinkedHashSet<Node> byUse = new LinkedHashSet<>(); // longest unused first

  /** The longest beginning of {@code tokens} that is known. */
  Match match(Beginning tokens) {
    List<Node> full = new ArrayList<>();
    Node node = root;
    for (int i = 0; i < KvCache.pagesFor(tokens.length()); i++) {
      Beginning next = tokens.page(i);
      Node child = nearest(node, next);
      int common = child == null ? 0 : child.tokens.common(next);
      if (common < KvCache.PAGE) {
        return new Match(full, common == 0 ? null : child, common);
      }
      full.add(child);
      node = child;
    }
    return new Match(full, null, 0);
  }

  private static Node nearest(Node node, Beginning tokens) {
    Map.Entry<Beginning, Node> below = node.children.floorEntry(tokens);
    Map.Entry<Beginning, Node> above = node.children.ceilingEntry(tokens);
    if (below == null || above == null) {
      return below != null ? below.getValue() : above != null ? above.getValue() : null;
    }
    return below.getKey().common(tokens) > above.getKey().common(tokens)
        ? below.getValue()
        : above.getValue();
  }

  /** The root if {@code parent} is null, else it. */
  private Node orRoot(Node parent) {
    return parent == null ? root : parent;
  }

  /** The child that begins with these tokens, or that these begin with; null for none. */
  Node along(Node parent, Beginning tokens) {
    Node child = nearest(orRoot(parent), tokens);
    return child != null
            && child.tokens.common(tokens) == Math.min(child.tokens.length(), tokens.length())
        ? child
        : null;
  }

  /** Adds a page, as the one used last. */
  Node add(Node parent, Beginning tokens, int page) {
    Node node = new Node(orRoot(parent), tokens, page);
    node.parent.children.put(tokens, node);
    byUse.add(node);
    return node;
  }

  /** Takes a leaf out. */
  void remove(Node leaf) {
    leaf.parent.children.remove(leaf.tokens);
    byUse.remove(leaf);
  }

  /** Notes that a node and those above it are used; parents last, so that leaves grow old first. */
  void use(Node node) {
    for (Node each = node; each != null && each != root; each = each.parent) {
      byUse.remove(each);
      byUse.add(each);
    }
  }

  /** The leaf that was unused for longest among those whose page {@code mayGo}; null for none. */
  Node oldest(IntPredicate mayGo) {
    for (Node node : byUse) {
      if (node.children.isEmpty() && mayGo.test(node.page)) {
        return node;
      }
    }
    return null;
  }
}
