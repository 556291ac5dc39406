/**
 * Heat maps, curves and pages as HTML, SVG and PNG that need nothing but themselves.
 *
 * {@snippet file="dev/halter/snippets/PicturesSnippetsTest.java" region="heat-map"}
 */
package dev.halter.pictures;
