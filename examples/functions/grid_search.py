"""scikit-learn's GridSearchCV on the fleet, by joblib's backend. Workers need scikit-learn."""

import sys

from joblib import parallel_config
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import taskfleet.joblib

if __name__ == "__main__":
    taskfleet.joblib.register()
    grid = {"C": [0.1, 1, 10, 100], "gamma": [0.01, 0.1, 1]}
    search = GridSearchCV(SVC(), grid, cv=4)
    with parallel_config(backend="taskfleet", n_jobs=-1, local="--local" in sys.argv):
        search.fit(*load_iris(return_X_y=True))
    print(f"best: {search.best_params_}, score {search.best_score_:.3f}")
