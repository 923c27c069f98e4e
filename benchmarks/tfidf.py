"""The baseline of text classification: TF-IDF and logistic regression, on the splits of the task.

    uv run --with scikit-learn==1.9.1 python benchmarks/tfidf.py [FILE]

scikit-learn is no dependency of this project: `--with` puts it beside the project's environment for
this one command. FILE is a table with the columns text and label (default: the movie reviews). The
vectoriser and the classifier are scikit-learn's, with its defaults but for two numbers that the
validation split selects: the longest n-gram (1 or 2 words) and the inverse regularisation C. The
test split is looked at once.

On the movie reviews (8,456 training, 1,056 validation, 1,056 test examples), scikit-learn 1.9.1,
2026-11-30:

    test accuracy 79.26 % ± 1.25 (standard error, n = 1,056), cross-entropy 0.4932 nats;
    n-grams to 2, C = 100 (validation accuracy 79.55 %)

The majority class has 50.4 %.
"""

import sys
from itertools import product

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from addnorm_exp.data.labelled import load

LONGEST = (1, 2)
INVERSE_REGULARISATION = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def main(path: str | None) -> None:
    data = load("file" if path else "movie_reviews", path)
    results = []
    for longest, c in product(LONGEST, INVERSE_REGULARISATION):
        vectoriser = TfidfVectorizer(ngram_range=(1, longest))
        classifier = LogisticRegression(C=c, max_iter=1000)
        classifier.fit(vectoriser.fit_transform(data.train.texts), data.train.labels)
        accuracy = classifier.score(vectoriser.transform(data.val.texts), data.val.labels)
        results.append((accuracy, longest, c, vectoriser, classifier))
        print(f"n-grams to {longest}, C = {c:<5g}  validation accuracy {100 * accuracy:.2f} %")
    _, longest, c, vectoriser, classifier = max(results, key=lambda result: result[0])
    features, labels = vectoriser.transform(data.test.texts), data.test.labels
    accuracy, entropy = classifier.score(features, labels), log_loss(labels, classifier.predict_proba(features))
    error = (accuracy * (1 - accuracy) / data.spec.test) ** 0.5
    print(
        f"{data.spec.name}: test accuracy {100 * accuracy:.2f} % ± {100 * error:.2f} (standard error, n = {data.spec.test:,}), "
        f"cross-entropy {entropy:.4f} nats; n-grams to {longest}, C = {c:g}"
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
