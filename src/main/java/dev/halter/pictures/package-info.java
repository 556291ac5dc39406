/** Heat maps and pages as HTML, SVG and PNG that need nothing but themselves. */
package dev.halter.pictures;
