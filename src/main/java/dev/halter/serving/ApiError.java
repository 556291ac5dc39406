package dev.halter.serving;

import dev.halter.files.Json;
import java.util.Map;

/** Why a request is not served, in OpenAI's shape. */
final class ApiError extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final int status;
  private final String parameter;

  /**
   * An error.
   *
   * @param status of HTTP
   * @param parameter the field that is to blame, or null
   * @param message one line for whoever wrote the request
   */
  ApiError(int status, String parameter, String message) {
    super(message, null, false, false); // the place in our code is nobody's business
    this.status = status;
    this.parameter = parameter;
  }

  /** A request that cannot mean anything: 400. */
  static ApiError badRequest(String parameter, String message) {
    return new ApiError(400, parameter, message);
  }

  static ApiError notFound(String parameter, String message) {
    return new ApiError(404, parameter, message);
  }

  /** A failure that is not the client's. */
  static ApiError ofServer() {
    return new ApiError(500, null, "the server failed; its log says why");
  }

  int status() {
    return status;
  }

  /** What the answer holds. */
  Map<String, Object> json() {
    return Json.object(
        "error",
        Json.object("message", getMessage(), "type", type(), "param", parameter, "code", status));
  }

  /** What it holds where others than OpenAI's clients ask. */
  Map<String, Object> plain() {
    return Json.object("error", getMessage());
  }

  /** vLLM's names. */
  private String type() {
    return switch (status) {
      case 400, 405, 413 -> "BadRequestError";
      case 401 -> "AuthenticationError";
      case 403 -> "PermissionDeniedError";
      case 404 -> "NotFoundError";
      case 409 -> "ConflictError";
      case 503 -> "ServiceUnavailableError";
      default -> "InternalServerError";
    };
  }
}
