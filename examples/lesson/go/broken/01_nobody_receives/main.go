// Broken: nobody receives. Go reports that no goroutine can continue.
package main

import "fmt"

func main() {
	greetings := make(chan string)
	fmt.Println("main sends")
	greetings <- "hello"
	fmt.Println("main goes on")
}
