from django.contrib.auth.views import LogoutView
from django.urls import path

from accounts import views

app_name = "accounts"
urlpatterns = [
    path("welcome/", views.welcome, name="welcome"),
    path("sign-in/", views.SignIn.as_view(), name="sign-in"),
    path("sign-in/<int:pk>/<str:token>/", views.sign_in_by_link, name="link"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
]
