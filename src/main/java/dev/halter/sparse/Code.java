package dev.halter.sparse;

/**
 * The sparse code of one vector x: Σ coefficients[i] · atom(support[i]) approximates x.
 *
 * @param support indices of atoms, in the order in which they were taken
 * @param coefficients for the atoms as their file has them, on the scale of x
 * @param objective of the solver on z = x/‖x‖ with unit atoms: PaCE's for elastic net and lasso,
 *     ½‖z − Dc‖² for matching pursuits
 * @param residualNorm ‖x − Σ coefficients[i] · atom(support[i])‖
 * @param iterations atoms tried by matching pursuits, rounds of elastic net
 * @param kkt largest violation of the solver's optimality conditions, on z: for elastic net and
 *     lasso over all atoms, for OMP largest |⟨a, residual⟩| over the support, for plain matching
 *     pursuit 0
 * @param error why there is no code, or one that is not finished; null if all is well
 */
public record Code(
    int[] support,
    double[] coefficients,
    double objective,
    double residualNorm,
    int iterations,
    double kkt,
    String error) {}
